// Draws a cloud before and after under one camera, with a swipe between them and shading by depth.
import {
  BufferAttribute, BufferGeometry, Color, DepthTexture, FloatType, Mesh, NearestFilter, OrthographicCamera, PerspectiveCamera,
  PlaneGeometry, Points, Scene, ShaderMaterial, Vector2, Vector3, WebGLRenderer, WebGLRenderTarget,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

const POINT_VERTEX = `
attribute vec3 next; attribute vec3 tint; uniform float blend; uniform float size; varying vec3 shade;
void main() {
  shade = tint;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(mix(position, next, blend), 1.0);
  gl_PointSize = size;
}`;
const POINT_FRAGMENT = `
varying vec3 shade;
void main() {
  vec2 p = gl_PointCoord - 0.5;
  if (dot(p, p) > 0.25) discard;
  gl_FragColor = vec4(shade, 1.0);
}`;
const QUAD_VERTEX = "varying vec2 at; void main() { at = uv; gl_Position = vec4(position.xy, 0.0, 1.0); }";
// Eye-dome lighting: a pixel is darker the more its neighbours stand in front of it (Boucheny 2009).
const QUAD_FRAGMENT = `
uniform sampler2D image; uniform sampler2D depth; uniform vec2 pixel; uniform float near; uniform float far; uniform vec3 back;
varying vec2 at;
float logDepth(vec2 p) { float d = texture2D(depth, p).x; return d >= 1.0 ? -1.0 : log2(near * far / (far - d * (far - near))); }
void main() {
  float own = logDepth(at);
  if (own == -1.0) { gl_FragColor = vec4(back, 1.0); return; }
  float sum = 0.0;
  for (int i = 0; i < 8; i++) {
    float a = float(i) * 0.7853982;
    float other = logDepth(at + pixel * vec2(cos(a), sin(a)));
    if (other != -1.0) sum += max(0.0, own - other);
  }
  gl_FragColor = vec4(texture2D(image, at).rgb * (0.35 + 0.65 * exp(-40.0 * sum)), 1.0);
}`;

const SETTLE = 180; // ms without a movement after which all points are drawn
const UPS = { z: [0, 0, 1], y: [0, 1, 0], "-y": [0, -1, 0] };

export class Viewer {
  constructor(canvas, onFrame) {
    this.canvas = canvas;
    this.onFrame = onFrame;
    this.renderer = new WebGLRenderer({ canvas, antialias: false, depth: false });
    this.renderer.autoClear = false;
    this.renderer.info.autoReset = false;
    this.camera = new PerspectiveCamera(45, 1, 0.1, 1000);
    this.material = new ShaderMaterial({
      vertexShader: POINT_VERTEX, fragmentShader: POINT_FRAGMENT, uniforms: { blend: { value: 0 }, size: { value: 2 } },
    });
    this.before = new Points(new BufferGeometry(), this.material);
    this.after = new Points(new BufferGeometry(), this.material);
    for (const part of [this.before, this.after]) part.frustumCulled = false;
    this.scenes = [this.before, this.after].map((part) => new Scene().add(part));
    this.target = new WebGLRenderTarget(1, 1, { minFilter: NearestFilter, magFilter: NearestFilter });
    this.target.depthTexture = new DepthTexture(1, 1, FloatType);
    this.quad = new ShaderMaterial({
      vertexShader: QUAD_VERTEX, fragmentShader: QUAD_FRAGMENT, depthTest: false, depthWrite: false,
      uniforms: {
        image: { value: this.target.texture }, depth: { value: this.target.depthTexture }, pixel: { value: new Vector2() },
        near: { value: 0 }, far: { value: 1 }, back: { value: new Color() },
      },
    });
    this.screen = new Scene().add(new Mesh(new PlaneGeometry(2, 2), this.quad));
    this.screenCamera = new OrthographicCamera();
    this.swipe = 1;
    this.time = 0;
    this.budget = 150000;
    this.frames = 0;
    this.makeControls("z");
    new ResizeObserver(() => this.draw(true)).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw(true));
  }

  makeControls(up) {
    this.up = up;
    this.controls?.dispose();
    this.camera.up.set(...UPS[up]);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.zoomToCursor = true;
    this.controls.addEventListener("change", () => this.draw());
  }

  // Shows a cloud; the camera stays where `keep` says so.
  show(cloud, colours, keep) {
    for (const part of [this.before, this.after]) part.geometry.dispose();
    this.cloud = cloud;
    this.buffers = cloud.states.map((state) => new BufferAttribute(state, 3));
    this.setColours(colours);
    if (!keep) this.fit();
    this.draw(true);
  }

  setColours(colours) {
    const tint = new BufferAttribute(colours, 3, true);
    for (const part of [this.before, this.after]) part.geometry.setAttribute("tint", tint);
    this.draw(true);
  }

  // Puts the camera where the whole cloud is seen, but for a few points far outside.
  fit() {
    const xyz = this.cloud.states[0], n = Math.min(this.cloud.points, 20000), middle = [0, 0, 0], sides = [0, 0, 0];
    for (let c = 0; c < 3; c++) {
      const sorted = Float32Array.from({ length: n }, (_, i) => xyz[3 * i + c]).sort();
      const [low, high] = [sorted[Math.floor(0.01 * n)], sorted[Math.floor(0.99 * (n - 1))]];
      middle[c] = (low + high) / 2;
      sides[c] = high - low;
    }
    this.radius = Math.max(1e-9, Math.hypot(...sides) / 2);
    const height = new Vector3(...UPS[this.up]);
    const across = this.up === "z" ? new Vector3(0.45, -1, 0) : new Vector3(0.45, 0, this.up === "y" ? 1 : -1);
    const direction = across.addScaledVector(height, 0.7).normalize();
    if (this.canvas.clientWidth) this.resize();
    this.controls.target.set(...middle);
    this.camera.position.copy(this.controls.target).addScaledVector(direction, Math.max(1.15 * this.distance(sides, direction), this.radius));
    this.camera.near = this.radius / 500;
    this.camera.far = this.radius * 50;
    this.camera.updateProjectionMatrix();
    this.controls.minDistance = this.radius / 100;
    this.controls.maxDistance = this.radius * 20;
    this.controls.update();
    this.draw(true);
  }

  // The distance of the camera, in a direction, at which a box with these sides is just in view.
  distance(sides, direction) {
    const right = new Vector3().crossVectors(new Vector3(...UPS[this.up]), direction).normalize(), upwards = new Vector3().crossVectors(direction, right);
    const half = Math.tan((this.camera.fov * Math.PI) / 360);
    const needed = Array.from({ length: 8 }, (_, corner) => {
      const at = new Vector3(...sides.map((side, c) => ((corner >> c) & 1 ? side : -side) / 2));
      return at.dot(direction) + Math.max(Math.abs(at.dot(right)) / this.camera.aspect, Math.abs(at.dot(upwards))) / half;
    });
    return Math.max(...needed);
  }

  // Asks for a frame: a quick one with fewer points while things move, all of them when they rest.
  draw(whole = false) {
    this.whole = this.whole || whole;
    if (this.pending) return;
    this.asked = performance.now();
    this.pending = requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.pending = 0;
    if (!this.cloud) return;
    const quick = !this.whole && this.cloud.points > this.budget;
    if (!this.whole) this.budget *= this.change(now - this.asked, now - (this.last ?? 0));
    this.budget = Math.max(20000, Math.min(2e6, this.budget));
    this.last = now;
    this.whole = false;
    this.resize();
    this.drawn = quick ? Math.round(this.budget) : this.cloud.points;
    this.render(this.drawn);
    this.frames++;
    clearTimeout(this.settle);
    if (quick) this.settle = setTimeout(() => this.draw(true), SETTLE);
    this.onFrame();
  }

  // The factor by which more or fewer points are drawn in the next quick frame: from the time that this one was waited for, and
  // that since the last, in ms.
  change(waited, gap) {
    if (waited > 45) return waited > 150 ? 0.5 : 0.85;
    return waited < 25 && gap < 400 ? 1.15 : 1;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas, ratio = Math.min(devicePixelRatio, 2);
    const size = this.renderer.getSize(new Vector2());
    if (size.x !== width || size.y !== height || this.renderer.getPixelRatio() !== ratio) {
      this.renderer.setPixelRatio(ratio);
      this.renderer.setSize(width, height, false);
      this.target.setSize(Math.max(1, width * ratio), Math.max(1, height * ratio));
      this.camera.aspect = width / Math.max(1, height);
      this.camera.updateProjectionMatrix();
    }
  }

  render(points) {
    const { width, height } = this.target, { uniforms } = this.quad, cut = Math.round(width * this.split());
    const step = Math.min(this.buffers.length - 1, Math.floor(this.time)), following = Math.min(this.buffers.length - 1, step + 1);
    this.material.uniforms.size.value = this.size * this.renderer.getPixelRatio();
    this.before.geometry.setAttribute("position", this.buffers[0]).setAttribute("next", this.buffers[0]);
    this.after.geometry.setAttribute("position", this.buffers[step]).setAttribute("next", this.buffers[following]);
    this.target.scissorTest = false; // read by setRenderTarget: else only the part drawn last would be cleared
    this.renderer.setRenderTarget(this.target);
    this.renderer.clear();
    [[this.before, this.scenes[0], 0, cut, 0], [this.after, this.scenes[1], cut, width - cut, this.time - step]].forEach(
      ([part, scene, left, wide, blend]) => {
        if (wide <= 0) return;
        this.target.scissor.set(left, 0, wide, height);
        this.target.scissorTest = true;
        this.renderer.setRenderTarget(this.target);
        this.material.uniforms.blend.value = blend;
        this.material.uniformsNeedUpdate = true;
        part.geometry.setDrawRange(0, points);
        this.renderer.render(scene, this.camera);
      },
    );
    uniforms.pixel.value.set(1.4 / width, 1.4 / height);
    uniforms.near.value = this.camera.near;
    uniforms.far.value = this.camera.far;
    uniforms.back.value.set(getComputedStyle(this.canvas.parentElement).backgroundColor).convertLinearToSRGB();
    this.renderer.setRenderTarget(null);
    this.renderer.render(this.screen, this.screenCamera);
  }

  // The share of the width that shows the scan before.
  split() {
    return this.buffers.length > 1 ? this.swipe : 0;
  }

  // The state of the point i where it is drawn: before, or at the time of the slider.
  place(i, before, out = new Vector3()) {
    const step = before ? 0 : Math.min(this.cloud.states.length - 1, Math.floor(this.time));
    const from = this.cloud.states[step], to = this.cloud.states[Math.min(this.cloud.states.length - 1, before ? 0 : step + 1)];
    const blend = before ? 0 : this.time - step;
    return out.set(...[0, 1, 2].map((c) => from[3 * i + c] + blend * (to[3 * i + c] - from[3 * i + c])));
  }

  // Screen position in CSS pixels of a place.
  project(place) {
    const p = place.clone().project(this.camera);
    return { x: ((p.x + 1) / 2) * this.canvas.clientWidth, y: ((1 - p.y) / 2) * this.canvas.clientHeight, shown: p.z < 1 };
  }

  // The point nearest to the eye within a few pixels of x, y; null where there is none.
  pick(x, y) {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, before = x < width * this.split();
    this.camera.updateMatrixWorld();
    const m = this.camera.projectionMatrix.clone().multiply(this.camera.matrixWorldInverse).elements, at = new Vector3();
    let best = null, least = Infinity;
    for (const reach of [4, 12]) {
      for (let i = 0; i < this.cloud.points; i++) {
        this.place3(i, before, at);
        const w = m[3] * at.x + m[7] * at.y + m[11] * at.z + m[15];
        const px = (((m[0] * at.x + m[4] * at.y + m[8] * at.z + m[12]) / w + 1) / 2) * width - x;
        const py = ((1 - (m[1] * at.x + m[5] * at.y + m[9] * at.z + m[13]) / w) / 2) * height - y;
        if (w > 0 && w < least && px * px + py * py < reach * reach) [best, least] = [i, w];
      }
      if (best !== null) return this.place(best, before);
    }
    return null;
  }

  // As `place` at whole steps, without making arrays: for loops over all points.
  place3(i, before, out) {
    const state = this.cloud.states[before ? 0 : Math.min(this.cloud.states.length - 1, Math.round(this.time))];
    out.x = state[3 * i];
    out.y = state[3 * i + 1];
    out.z = state[3 * i + 2];
  }

  // Moves by the keyboard: turns, zooms or shifts.
  turn(right, upwards) {
    const offset = this.camera.position.clone().sub(this.controls.target), up = this.camera.up;
    const side = new Vector3().crossVectors(up, offset).normalize();
    offset.applyAxisAngle(up, right);
    const tilt = Math.max(0.05, Math.min(Math.PI - 0.05, offset.angleTo(up) + upwards)) - offset.angleTo(up);
    offset.applyAxisAngle(side.applyAxisAngle(up, right), tilt);
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }

  zoom(factor) {
    this.camera.position.sub(this.controls.target).multiplyScalar(factor).add(this.controls.target);
    this.controls.update();
    this.draw();
  }

  shift(right, upwards) {
    const reach = this.camera.position.distanceTo(this.controls.target);
    const move = new Vector3(right * reach, upwards * reach, 0).applyQuaternion(this.camera.quaternion);
    this.camera.position.add(move);
    this.controls.target.add(move);
    this.controls.update();
    this.draw();
  }
}
