"""three.js reads the video's camera of a GLB, and the page keeps its own."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshes.gltf import animated_glb
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from tests.meshes.animal_in_view import animal_in_view
from tests.servers import ProcessServer
from tests.web.conftest import NewTab

pytestmark = pytest.mark.timeout(120)

# every timestep's vertices in the picture of the file's camera, in px, and the box of the scene
PROJECT = """async ({ content, timesteps, fps }) => {
  const THREE = await import('/vendor/three.module.min.js');
  const { GLTFLoader } = await import('/vendor/GLTFLoader.js');
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const gltf = await new GLTFLoader().parseAsync(bytes.buffer, '');
  const camera = gltf.cameras[0];
  const mesh = gltf.scene.getObjectByName('subject');
  const { width, height } = camera.userData;
  const mixer = new THREE.AnimationMixer(gltf.scene);
  const action = mixer.clipAction(gltf.animations[0]).play();
  const seen = [];
  for (let t = 0; t < timesteps; t += 1) {
    action.time = Math.min(t / fps, action.getClip().duration - 1e-6);
    mixer.update(0);
    gltf.scene.updateMatrixWorld();
    for (let k = 0; k < mesh.geometry.attributes.position.count; k += 1) {
      const point = mesh.getVertexPosition(k, new THREE.Vector3()).project(camera);
      seen.push([(1 + point.x) / 2 * width, (1 - point.y) / 2 * height]);
    }
  }
  const withCamera = new THREE.Box3().setFromObject(gltf.scene);
  const meshAlone = new THREE.Box3().setFromObject(mesh);
  const isSameBox = withCamera.equals(meshAlone);
  return { seen, isSameBox, name: camera.name, cameras: gltf.cameras.length };
}"""

# the page's own scene with this mesh: is its camera still used, where does it stand?
SHOW = """async (content) => {
  const { Scene } = await import('/scene.js');
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const canvas = document.body.appendChild(document.createElement('canvas'));
  const scene = new Scene(canvas, () => {});
  const own = scene._camera;
  const url = URL.createObjectURL(new Blob([bytes]));
  await scene.load(url, { signal: new AbortController().signal, onProgress: () => {} });
  const { min, max } = scene._bounds;
  const place = [own.position, min, max].flatMap((point) => point.toArray());
  const isOwn = scene._camera === own;
  scene.close();
  canvas.remove();
  return { place, isOwn };
}"""


def encoded(sequence: MeshSequence) -> str:
    return base64.b64encode(animated_glb(sequence, vertex_normals(sequence))).decode()


def pixels(sequence: MeshSequence) -> NDArray[np.float64]:
    assert sequence.view
    view = sequence.view
    return np.concatenate([view.project(points, t) for t, points in enumerate(sequence.vertices)])


@pytest.mark.parametrize("kind", ["constant", "moving", "orthographic"])
def test_three_js_projects_the_vertices_where_the_video_has_them(
    server: ProcessServer, tab_at: NewTab, kind: str
) -> None:
    sequence = animal_in_view(3, is_moving=kind == "moving", is_orthographic=kind == "orthographic")
    tab = tab_at(server)
    tab.open()
    what = {"content": encoded(sequence), "timesteps": 3, "fps": sequence.fps}
    found: dict[str, Any] = tab.evaluate(PROJECT, what)
    assert np.abs(np.array(found["seen"]) - pixels(sequence)).max() < 0.01
    assert (found["name"], found["cameras"], found["isSameBox"]) == ("video", 1, True)


def test_the_page_keeps_its_own_camera(server: ProcessServer, tab_at: NewTab) -> None:
    with_camera = animal_in_view(3)
    without = MeshSequence(
        with_camera.vertices, with_camera.faces, with_camera.fps, texture=with_camera.texture
    )
    tab = tab_at(server)
    tab.open()
    shown, wanted = (tab.evaluate(SHOW, encoded(sequence)) for sequence in (with_camera, without))
    assert shown["isOwn"] and shown["place"] == wanted["place"]
