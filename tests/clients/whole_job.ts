/**
 * A whole job through openapi-fetch, with the types that openapi-typescript made of /openapi.json.
 *
 * node whole_job.mjs URL CLIP: test_generated_clients.py compiles and runs it. Throws if anything
 * differs from what is expected.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { EventSource } from "eventsource";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [baseUrl, clip] = process.argv.slice(2) as [string, string];
const api = createClient<paths>({ baseUrl });

type Upload = NonNullable<
  paths["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
>;

async function submit(fields: Upload): Promise<string> {
  const { data, error } = await api.POST("/jobs", {
    body: fields,
    bodySerializer: (body) => {
      const form = new FormData();
      for (const [name, value] of Object.entries(body as Upload)) form.set(name, String(value));
      form.set("file", new Blob([readFileSync(clip)]), "clip.mp4");
      return form;
    },
  });
  assert(data, JSON.stringify(error));
  return data.job_id;
}

async function ended(job_id: string): Promise<components["schemas"]["JobBody"]> {
  for (;;) {
    const { data } = await api.GET("/jobs/{job_id}", {
      params: { path: { job_id }, query: { wait: 50 } },
    });
    assert(data);
    if (data.status !== "queued" && data.status !== "running") return data;
  }
}

function lastEvent(job_id: string): Promise<components["schemas"]["JobBody"]> {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`${baseUrl}/jobs/${job_id}/events`);
    source.addEventListener("done", (event) => {
      source.close();
      resolve(JSON.parse(event.data));
    });
    source.onerror = (event) => reject(new Error(event.message));
  });
}

const job_id = await submit({ mode: "fast", seed: 7, formats: "npz" });
const done = await lastEvent(job_id);
const job = await ended(job_id);
assert.equal(job.status, "finished");
assert.deepEqual(done, job);

for (const file of job.files!) {
  const { data } = await api.GET("/outputs/{job_id}/{filename}", {
    params: { path: { job_id, filename: file.name } },
    parseAs: "arrayBuffer",
  });
  assert.equal(createHash("sha256").update(Buffer.from(data!)).digest("hex"), file.sha256);
}
const zip = await api.GET("/outputs/{job_id}/meshes.zip", {
  params: { path: { job_id } },
  parseAs: "arrayBuffer",
});
assert.equal(zip.data!.byteLength, job.files!.find((file) => file.name === "meshes.zip")!.bytes);

const list = await api.GET("/jobs", { params: { query: { status: "finished", limit: 5 } } });
assert(list.data!.jobs.some((listed) => listed.job_id === job_id));

const retried = await api.POST("/jobs/{job_id}/retry", {
  params: { path: { job_id } },
  body: { seed: 8 },
});
const cancelled = await api.POST("/jobs/{job_id}/cancel", {
  params: { path: { job_id: retried.data!.job_id } },
});
assert(cancelled.data);
assert.equal((await ended(retried.data!.job_id)).status, "cancelled");
for (const each of [job_id, retried.data!.job_id]) {
  const deleted = await api.DELETE("/jobs/{job_id}", { params: { path: { job_id: each } } });
  assert.equal(deleted.data!.status, "deleted");
}
const gone = await api.GET("/jobs/{job_id}", { params: { path: { job_id } } });
assert.equal(gone.error!.code, "job_not_found");
assert.equal((await api.GET("/health")).data!.status, "healthy");
assert.match((await api.GET("/metrics", { parseAs: "text" })).data!, /^# HELP/);
