// Where a viewer puts the vertices of a GLB at given times. Used by the pages three_reader.html and
// model_viewer_reader.html; `root` is the loaded model, `seek` shows a time in seconds.
export function readVertices(root, seek, times) {
  let mesh = null;
  root.traverse((object) => { if (object.isMesh) mesh = object; });
  const { position, uv } = mesh.geometry.attributes;
  const vertex = root.position.clone();
  const frames = times.map((time) => {
    seek(time);
    root.updateMatrixWorld(true);
    const place = root.matrixWorld.clone().invert().multiply(mesh.matrixWorld);
    const found = [];
    for (let index = 0; index < position.count; index += 1) {
      mesh.getVertexPosition(index, vertex).applyMatrix4(place);
      found.push(vertex.x, vertex.y, vertex.z);
    }
    return found;
  });
  const coordinates = [];
  for (let index = 0; index < position.count; index += 1) {
    coordinates.push(uv.getX(index), uv.getY(index));
  }
  return { frames, uv: coordinates };
}
