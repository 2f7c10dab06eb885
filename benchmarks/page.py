"""Measures the page in a real Chromium: `python -m benchmarks.page`.

Bytes and time of the first load, and the viewer's frame rate with 31 timesteps of 40,000 faces.
Without a GPU the browser draws on one CPU core, which dominates the frame rate: a lower bound.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from client import Client
from tests.servers import process_server
from tests.web.browser import CLIP, Tab, chromium, new_tab

PLAYED_MS = 4000

_FIRST_LOAD = """() => {
  const [page] = performance.getEntriesByType('navigation');
  const entries = [page, ...performance.getEntriesByType('resource')];
  return { bytes: entries.reduce((sum, entry) => sum + entry.transferSize, 0),
    interactive_ms: page.domInteractive, complete_ms: page.loadEventEnd };
}"""


def main() -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory(prefix="page_") as folder,
        process_server(Path(folder), PIPELINE="tests.pipelines:Dense") as server,
        chromium() as browser,
    ):
        client = Client(server.url)
        job = client.wait(client.submit(CLIP))
        shape = f"{job['mesh']['timesteps']} timesteps of {job['mesh']['faces']:,} faces"
        print("| what | found |\n|---|---|")
        with new_tab(browser, server.url) as tab:
            tab.open()
            tab.page.wait_for_selector("#mode-cards input", state="attached")
            ready_ms = tab.evaluate("() => performance.now()")
            load = tab.evaluate(_FIRST_LOAD)
        print(f"| first load, transferred | {load['bytes'] / 1000:.0f} KB |")
        print(f"| - can be used after | {load['interactive_ms']:.0f} ms |")
        print(f"| - with everything from /info, after | {ready_ms:.0f} ms |")
        for size in ((1280, 800), (390, 844)):
            viewport = {"width": size[0], "height": size[1]}
            with new_tab(browser, server.url, viewport=viewport) as tab:
                tab.open(f"#job={job['job_id']}")
                tab.wait_for_viewer()
                print(f"| {shape}, window of {size[0]} x {size[1]} | {_rate(tab):.0f} a second |")
    print("\nChromium drew in software (SwiftShader): a lower bound, without a GPU.")


def _rate(tab: Tab) -> float:
    """Frames per second while the mesh plays, from the page's own counter and clock."""
    look = "() => [actionmesh.scene.drawn, performance.now()]"
    drawn, began = tab.evaluate(look)
    tab.page.wait_for_timeout(PLAYED_MS)
    after, ended = tab.evaluate(look)
    return float((after - drawn) * 1000 / (ended - began))


if __name__ == "__main__":
    main()
