// The view of `scene_view.html`: draws what the element "data" holds, by three.js.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const AXES = [0xff5a36, 0x2ec27e, 0x3d8bff];
const PLAIN = 0xb8bec6;
const SYMMETRY = 0xcc79a7;
const stage = document.getElementById("stage");
const input = name => document.getElementById(name);

// ---- meshes

function numbers(text, kind) {
  return new kind(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
}

function geometryOf(mesh) {
  const geometry = new THREE.BufferGeometry();
  const put = (name, values, size, normalized) =>
    geometry.setAttribute(name, new THREE.BufferAttribute(values, size, normalized));
  put("position", numbers(mesh.positions, Float32Array), 3, false);
  if (mesh.normals) put("normal", numbers(mesh.normals, Int8Array), 3, true);
  if (mesh.colors) put("color", numbers(mesh.colors, Uint8Array), 3, true);
  if (mesh.uv) put("uv", numbers(mesh.uv, Float32Array), 2, false);
  geometry.setIndex(new THREE.BufferAttribute(numbers(mesh.faces, Uint32Array), 1));
  return geometry;
}

function pictureOf(uri) {
  const texture = new THREE.TextureLoader().load(uri, () => render());
  texture.anisotropy = 4;
  return texture;
}

const tintShare = { value: 0 };
const surfaces = [];

// The model's own colours, mixed with the colour of the pose's series.
function surfaceOf(mesh, color) {
  const surface = new THREE.MeshPhongMaterial({
    side: THREE.DoubleSide, flatShading: !mesh.normals, vertexColors: Boolean(mesh.colors), transparent: true,
    color: mesh.colors || mesh.texture ? 0xffffff : PLAIN, specular: 0x1c1c1c, shininess: 25,
  });
  if (mesh.texture) surface.map = pictureOf(mesh.texture);
  const tint = { value: new THREE.Color(color) };
  surface.onBeforeCompile = shader => {
    Object.assign(shader.uniforms, { tint, tintShare });
    shader.fragmentShader = shader.fragmentShader
      .replace("void main() {", "uniform vec3 tint;\nuniform float tintShare;\nvoid main() {")
      .replace("#include <color_fragment>",
        "#include <color_fragment>\ndiffuseColor.rgb = mix(diffuseColor.rgb, tint, tintShare);");
  };
  surfaces.push(surface);
  return surface;
}

// A mesh that can be seen through shows its nearest surface only: its depth is drawn before its colour.
function solid(geometry, surface, order) {
  const depth = new THREE.Mesh(geometry,
    new THREE.MeshBasicMaterial({ colorWrite: false, side: THREE.DoubleSide, transparent: true }));
  const color = new THREE.Mesh(geometry, surface);
  [depth.renderOrder, color.renderOrder] = [order, order + 0.5];
  return new THREE.Group().add(depth, color);
}

// ---- lines and arrows, which nothing hides

function onTop(geometry, color) {
  const mesh = new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ color, depthTest: false, transparent: true }));
  mesh.renderOrder = 1000;
  return mesh;
}

function along(object, point, direction) {
  object.quaternion.setFromUnitVectors(new THREE.Vector3(0, 1, 0), direction);
  object.position.copy(point);
  return object;
}

function rod(point, direction, length, radius, color) {
  const mesh = onTop(new THREE.CylinderGeometry(radius, radius, length, 12), color);
  return along(mesh, point.clone().addScaledVector(direction, length / 2), direction);
}

function axesOf(length, color) {
  const group = new THREE.Group();
  const origin = new THREE.Vector3();
  AXES.forEach((axisColor, k) => {
    const direction = new THREE.Vector3().setComponent(k, 1);
    group.add(rod(origin, direction, length, 0.009 * length, axisColor));
    const tip = onTop(new THREE.ConeGeometry(0.032 * length, 0.11 * length, 16), color);
    group.add(along(tip, direction.clone().multiplyScalar(length), direction));
  });
  group.add(onTop(new THREE.SphereGeometry(0.025 * length, 16, 12), color));
  return group;
}

function symmetriesOf(mesh) {
  const group = new THREE.Group();
  for (const { point, direction } of mesh.symmetries) {
    const unit = new THREE.Vector3(...direction);
    const start = new THREE.Vector3(...point).addScaledVector(unit, -0.7 * mesh.diameter);
    group.add(rod(start, unit, 1.4 * mesh.diameter, 0.004 * mesh.diameter, SYMMETRY));
  }
  return group;
}

function boxOf(mesh) {
  const low = new THREE.Vector3(...mesh.low);
  const high = low.clone().add(new THREE.Vector3(...mesh.size));
  return new THREE.Box3Helper(new THREE.Box3(low, high), 0x7f7f7f);
}

function linesOf(points, pairs, color) {
  const ends = pairs.flat().map(index => points[index]);
  return new THREE.LineSegments(new THREE.BufferGeometry().setFromPoints(ends), new THREE.LineBasicMaterial({ color }));
}

// ---- the scene, in the camera's frame: x right, y down, z forward; metres

const scene = new THREE.Scene();
const layers = []; // [object, the names of the layers that must all be on]
const centers = [], radii = []; // of each object's first pose
const frustum = new THREE.Group(); // the picture plane at a depth of 1, scaled to its distance

function add(parent, object, ...names) {
  parent.add(object);
  layers.push([object, names]);
}

function addPoses() {
  const geometries = data.meshes.map(geometryOf);
  data.poses.forEach((pose, order) => {
    const mesh = data.meshes[pose.mesh], color = data.colors[pose.series], ofObject = `object:${pose.object}`;
    const place = new THREE.Group();
    place.matrix.fromArray(pose.matrix);
    place.matrixAutoUpdate = false;
    add(place, solid(geometries[pose.mesh], surfaceOf(mesh, color), order), `mesh:${pose.series}`, ofObject);
    add(place, axesOf(0.65 * mesh.diameter, color), `axes:${pose.series}`, ofObject);
    if (pose.series === "model") {
      add(place, boxOf(mesh), "box", ofObject);
      add(place, symmetriesOf(mesh), "symmetries", ofObject);
    }
    scene.add(place);
    if (centers[pose.object]) return;
    const middle = new THREE.Vector3(...mesh.low).addScaledVector(new THREE.Vector3(...mesh.size), 0.5);
    centers[pose.object] = middle.applyMatrix4(place.matrix);
    radii[pose.object] = mesh.diameter / 2;
  });
}

function addPhoto(photo) {
  const corners = photo.corners.map(corner => new THREE.Vector3(...corner));
  const plane = new THREE.BufferGeometry().setFromPoints(corners);
  plane.setAttribute("uv", new THREE.BufferAttribute(new Float32Array([0, 1, 1, 1, 0, 0, 1, 0]), 2));
  plane.setIndex([0, 1, 2, 1, 3, 2]);
  const paper = new THREE.MeshBasicMaterial({ map: pictureOf(photo.uri), side: THREE.DoubleSide });
  add(frustum, new THREE.Mesh(plane, paper), "photo");
  const points = [new THREE.Vector3(), ...corners];
  const edges = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 4], [4, 3], [3, 1]];
  add(frustum, linesOf(points, edges, 0x7f7f7f), "camera");
  scene.add(frustum);
}

function frustumPoints() {
  const corners = data.photo.corners.map(corner => new THREE.Vector3(...corner));
  return [new THREE.Vector3(), ...corners.map(corner => corner.multiplyScalar(frustum.scale.x))];
}

addPoses();
if (data.photo) addPhoto(data.photo);
const depth = data.photo ? Math.max(...centers.map((center, k) => center.z + radii[k]), 1e-3) : 1;
const size = data.photo ? 1.15 * depth : Math.max(...radii) * 2;
const lamp = new THREE.DirectionalLight(0xffffff, 0.65);
scene.add(new THREE.AmbientLight(0xffffff, 0.5), lamp, lamp.target);

// ---- the virtual camera, which has the real one's intrinsics; `zoom` enlarges the picture, not the scene

const lens = data.photo || { width: 1000, height: 1000, K: [[1600, 0, 499.5], [0, 1600, 499.5], [0, 0, 1]] };
const zoom = { scale: 1, x: 0, y: 0 };
const camera = new THREE.PerspectiveCamera();
let renderer, controls;
let inCamera = false; // the virtual camera is where the real one was
let untouched = true; // the view is one of the page's own, which fit the stage

// How much of the stage's width and height the whole picture takes.
function fit() {
  const ratio = lens.width / lens.height / (stage.clientWidth / stage.clientHeight);
  return [Math.min(1, ratio), Math.min(1, 1 / ratio)];
}

function project() {
  const [[fx, skew, cx], [, fy, cy]] = lens.K;
  const [sx, sy] = fit().map(share => share * zoom.scale);
  const near = 0.004 * size, far = 60 * size;
  camera.projectionMatrix.set(
    sx * 2 * fx / lens.width, -sx * 2 * skew / lens.width, -sx * (2 * (cx + 0.5) / lens.width - 1) - zoom.x, 0,
    0, sy * 2 * fy / lens.height, -sy * (1 - 2 * (cy + 0.5) / lens.height) - zoom.y, 0,
    0, 0, -(far + near) / (far - near), -2 * far * near / (far - near),
    0, 0, -1, 0);
}

function unzoom() {
  Object.assign(zoom, { scale: 1, x: 0, y: 0 });
}

function zoomAt(x, y, factor) {
  const scale = Math.min(40, Math.max(0.5, zoom.scale * factor));
  const change = scale / zoom.scale;
  Object.assign(zoom, { scale, x: x + (zoom.x - x) * change, y: y + (zoom.y - y) * change });
}

function enter(ofCamera) {
  inCamera = ofCamera;
  controls.noZoom = controls.noPan = inCamera;
  for (const [name, on] of [["camera-view", inCamera], ["free-view", !inCamera]]) {
    input(name)?.setAttribute("aria-pressed", String(on));
  }
}

function place(position, target) {
  camera.up.set(0, data.photo ? -1 : 0, data.photo ? 0 : 1);
  camera.position.copy(position);
  controls.target.copy(target);
  controls.update();
  render();
}

function cameraView() {
  enter(true);
  unzoom();
  place(new THREE.Vector3(), new THREE.Vector3(0, 0, Math.max(1e-3, centers[0].z)));
}

// The tangent of the angle that the narrower side of the picture opens to either side.
function opening() {
  return Math.min(lens.width / lens.K[0][0], lens.height / lens.K[1][1]) / 2;
}

// As near as the whole frustum, or the objects that stand alone, can be seen from.
function freeView() {
  enter(false);
  unzoom();
  project();
  const all = new THREE.Box3().setFromPoints(centers).expandByScalar(Math.max(...radii));
  const ends = data.photo ? frustumPoints() : [0, 1, 2, 3, 4, 5, 6, 7].map(k => new THREE.Vector3(
    ...["x", "y", "z"].map((axis, n) => (k >> n & 1 ? all.max : all.min)[axis])));
  const middle = new THREE.Box3().setFromPoints(ends).getCenter(new THREE.Vector3());
  const direction = data.photo ? new THREE.Vector3(0.85, -0.45, -0.6) : new THREE.Vector3(0.8, -1, 0.6);
  direction.normalize();
  place(middle.clone().add(direction), middle);
  camera.updateMatrixWorld();
  const [wide, high] = [0, 5].map(k => camera.projectionMatrix.elements[k] / 0.92);
  const distances = ends.map(point => point.applyMatrix4(camera.matrixWorldInverse))
    .map(seen => seen.z + 1 + Math.max(Math.abs(seen.x) * wide, Math.abs(seen.y) * high));
  place(middle.clone().addScaledVector(direction, Math.max(...distances)), middle);
  untouched = true;
}

function focus(index) {
  untouched = false;
  unzoom();
  project();
  const center = centers[index], radius = radii[index];
  if (inCamera) {
    const seen = center.clone().applyMatrix4(camera.matrixWorldInverse);
    const [rx, ry] = [0, 5].map(k => radius * camera.projectionMatrix.elements[k] / -seen.z);
    const middle = seen.applyMatrix4(camera.projectionMatrix);
    const scale = Math.min(40, Math.max(1, 0.7 / Math.max(rx, ry)));
    Object.assign(zoom, { scale, x: -scale * middle.x, y: -scale * middle.y });
    render();
  } else {
    const direction = camera.position.clone().sub(controls.target).normalize();
    place(center.clone().addScaledVector(direction, 1.5 * radius / opening()), center);
  }
}

// ---- drawing

function render() {
  if (!renderer) return;
  const shown = new Set([...document.querySelectorAll("[data-layer]")]
    .filter(box => box.checked).map(box => box.dataset.layer));
  for (const [object, names] of layers) object.visible = names.every(name => shown.has(name));
  const opacity = Number(input("opacity").value);
  for (const surface of surfaces) surface.opacity = opacity;
  tintShare.value = Number(input("tint").value);
  if (data.photo) frustum.scale.setScalar(Number(input("distance").value) * depth);
  lamp.position.copy(camera.position);
  lamp.target.position.copy(controls.target);
  renderer.setClearColor(getComputedStyle(document.documentElement).getPropertyValue("--stage").trim());
  project();
  renderer.render(scene, camera);
}

function resize() {
  renderer.setSize(stage.clientWidth, stage.clientHeight);
  controls.handleResize();
  if (untouched && !inCamera) freeView();
  else render();
}

function onStage(event) {
  const box = stage.getBoundingClientRect();
  return [2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height];
}

function listen(canvas) {
  controls.addEventListener("start", () => (untouched = false));
  controls.addEventListener("change", () => {
    if (inCamera && camera.position.length() > 1e-6 * size) enter(false);
    render();
  });
  canvas.addEventListener("wheel", event => {
    if (!inCamera) return;
    event.preventDefault();
    zoomAt(...onStage(event), Math.exp(-0.0015 * event.deltaY));
    render();
  }, { passive: false });
  canvas.addEventListener("pointermove", event => {
    if (!inCamera || !(event.buttons & 2)) return;
    zoom.x += 2 * event.movementX / stage.clientWidth;
    zoom.y -= 2 * event.movementY / stage.clientHeight;
    render();
  });
  document.querySelectorAll("input").forEach(box => box.addEventListener("input", render));
  document.querySelectorAll("[data-focus]").forEach(name =>
    name.addEventListener("click", () => focus(Number(name.dataset.focus))));
  input("camera-view")?.addEventListener("click", cameraView);
  input("free-view").addEventListener("click", freeView);
  window.addEventListener("resize", resize);
}

function start() {
  try {
    renderer = new THREE.WebGLRenderer({ antialias: true });
  } catch (error) {
    input("failure").hidden = false;
    return;
  }
  renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
  stage.append(renderer.domElement);
  controls = new THREE.TrackballControls(camera, renderer.domElement);
  Object.assign(controls, { rotateSpeed: 2.5, zoomSpeed: 1, panSpeed: 0.4, staticMoving: true });
  listen(renderer.domElement);
  inCamera = Boolean(data.photo) && location.hash === "#camera";
  resize();
  if (inCamera) cameraView();
  const turn = () => {
    requestAnimationFrame(turn);
    controls.update();
  };
  turn();
}

start();
