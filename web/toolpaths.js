// The lines of a print on its bed: all layers up to one, that one exactly (see slicing/toolpaths.py).
import {
  BufferGeometry, Color, DoubleSide, Float32BufferAttribute, InstancedBufferGeometry, InstancedInterleavedBuffer,
  InterleavedBufferAttribute, LineBasicMaterial, LineSegments, Mesh, ShaderMaterial, Vector3,
} from "three";
import { dispose, Stage } from "./scene.js";

const MAGIC = 0x31544650;  // "PFT1"
const END = 255, MOST_KINDS = 16;
const WAYS = 0x7f8fa8;
const FAR = { width: 220, depth: 220, height: 250, x: 0, y: 0 };

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || "This view cannot be shown now.");
  const buffer = await answer.arrayBuffer(), view = new DataView(buffer);
  if (view.getUint32(0, true) !== MAGIC) throw new Error("This view cannot be read.");
  const begin = 8 + view.getUint32(4, true);
  return { ...JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, begin - 8))), points: new Uint16Array(buffer, begin) };
}

// a line as a rod of four sides with rounded light; its ends reach a little further, so that corners close
const VERTEX = `
attribute vec3 begin, end;
attribute float kind;
uniform vec3 low, palette[${MOST_KINDS}];
uniform float size, width, height, faint;
varying vec3 shade;
void main() {
  vec3 from = low + size * begin, way = size * (end - begin);
  float far = length(way);
  if (kind > ${MOST_KINDS - 1}.5 || far == 0.0) { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); return; }
  vec3 along = way / far, side = vec3(along.y, -along.x, 0.0);
  side = length(side) < 0.01 ? vec3(1.0, 0.0, 0.0) : normalize(side);
  vec3 around = side * position.x + vec3(0.0, 0.0, position.y);
  vec3 place = from + way * position.z + along * (position.z - 0.5) * width * 0.7;
  place += side * position.x * width * 0.5 + vec3(0.0, 0.0, (position.y - 1.0) * height * 0.5);
  vec3 normal = normalize(normalMatrix * around);
  float light = 0.42 + 0.62 * max(dot(normal, normalize(vec3(-0.45, 0.65, 0.7))), 0.0);
  vec3 colour = palette[int(kind + 0.5)];
  shade = mix(colour, vec3(dot(colour, vec3(0.3, 0.6, 0.1))), faint) * light;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(place, 1.0);
}`;
const FRAGMENT = `
varying vec3 shade;
void main() { gl_FragColor = vec4(shade, 1.0); }`;

function rod() {
  const corners = [], faces = [];
  for (const z of [0, 1]) corners.push(-1, 0, z, 0, 1, z, 1, 0, z, 0, -1, z);
  for (let i = 0; i < 4; i++) faces.push(i, 4 + i, (i + 1) % 4, (i + 1) % 4, 4 + i, 4 + ((i + 1) % 4));
  faces.push(0, 1, 2, 0, 2, 3, 4, 6, 5, 4, 7, 6);
  return { corners, faces };
}

function rods(found, height, origin) {
  const geometry = new InstancedBufferGeometry(), { corners, faces } = rod();
  geometry.setAttribute("position", new Float32BufferAttribute(corners, 3));
  geometry.setIndex(faces);
  const points = new InstancedInterleavedBuffer(found.points, 4, 1);
  geometry.setAttribute("begin", new InterleavedBufferAttribute(points, 3, 0));
  geometry.setAttribute("kind", new InterleavedBufferAttribute(points, 1, 3));
  geometry.setAttribute("end", new InterleavedBufferAttribute(points, 3, 4));  // the next point's
  const palette = Array.from({ length: MOST_KINDS }, (_, i) => new Vector3(...(found.kinds[i]?.colour ?? [120, 130, 145])).divideScalar(255));
  const uniforms = {
    low: { value: new Vector3(...found.low).sub(origin) }, size: { value: found.step }, width: { value: found.width },
    height: { value: height }, faint: { value: 0 }, palette: { value: palette },
  };
  const mesh = new Mesh(geometry, new ShaderMaterial({ vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms, side: DoubleSide }));
  mesh.frustumCulled = false;  // where its lines are only the shader knows
  return mesh;
}

function ways(found, origin) {
  const points = found.points.subarray(4 * found.lines), places = [];
  const put = (i) => { for (let axis = 0; axis < 3; axis++) places.push(found.low[axis] - origin.getComponent(axis) + found.step * points[i + axis]); };
  for (let i = 0; i + 4 < points.length; i += 4) {
    if (points[i + 3] === END) continue;
    put(i);
    put(i + 4);
  }
  const geometry = new BufferGeometry().setAttribute("position", new Float32BufferAttribute(places, 3));
  return new LineSegments(geometry, new LineBasicMaterial({ color: new Color(WAYS), transparent: true, opacity: 0.7 }));
}

const middle = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

export class PathsView {
  /** `root`: where the canvas goes; `url`: of all layers, with a number behind it of one. Throws where there is no WebGL,
   * rejects with a sentence when there is nothing to show. */
  static async open(root, url, bed) {
    const stage = new Stage(root, root.dataset.label);
    try {
      return new PathsView(stage, url, bed ?? FAR, await fetched(url));
    } catch (error) {
      stage.end();
      throw error;
    }
  }

  constructor(stage, url, bed, found) {
    Object.assign(this, { stage, url, found });
    this.origin = new Vector3(bed.x + bed.width / 2, bed.y + bed.depth / 2, 0);
    stage.bed(bed);
    const steps = found.z.slice(1).map((z, i) => z - found.z[i]).filter((step) => step > 0.005);
    this.height = Math.min(Math.max(steps.length ? middle(steps) : found.z[0] || 0.2, 0.05), 2);
    this.below = rods(found, this.height * found.every, this.origin);
    stage.scene.add(this.below);
    this.layers = found.z.length;
    this.kept = new Map();  // layers that were looked at last, as they came
    this.#frame();
  }

  #frame() {
    const low = new Vector3(Infinity, Infinity, Infinity), high = low.clone().negate(), at = new Vector3();
    const { points, step } = this.found, start = new Vector3(...this.found.low).sub(this.origin);
    for (let i = 0; i < points.length; i += 4) {
      at.set(points[i], points[i + 1], points[i + 2]).multiplyScalar(step).add(start);
      low.min(at);
      high.max(at);
    }
    const radius = Math.max(low.distanceTo(high) / 2, 12);
    this.stage.frame(low.add(high).divideScalar(2), radius);
  }

  /** s from the begin of the print to that of a layer (counted from 1), and of all. */
  time(number) {
    return [this.found.begins_s[number - 1], this.found.time_s];
  }

  z(number) {
    return this.found.z[number - 1];
  }

  /** Shows everything up to a layer, or only that one; exactly as soon as it is there. */
  show(number, { only = false, travels = false } = {}) {
    this.wanted = { number, only, travels };
    this.#draw();
    this.#load();
  }

  #draw() {
    const { number, only, travels } = this.wanted, exact = this.kept.get(number), { first, points } = this.found;
    if (this.exact && this.exact.number !== number) this.#drop();
    if (exact && !this.exact) this.#put(exact);
    const upTo = first[exact || only ? number - 1 : number];
    this.below.visible = !only;
    this.below.geometry.instanceCount = Math.max(0, Math.min(upTo, points.length / 4 - 1));
    this.below.material.uniforms.faint.value = number < this.layers ? 0.35 : 0;
    if (this.exact) this.exact.ways.visible = travels;
    this.stage.ask();
  }

  #put(exact) {
    const lines = rods(exact, this.height, this.origin), between = ways(exact, this.origin);
    lines.geometry.instanceCount = Math.max(0, Math.min(exact.lines, exact.points.length / 4 - 1));
    this.stage.scene.add(lines, between);
    this.exact = { number: exact.number + 1, lines, ways: between };
  }

  #drop() {
    dispose(this.exact.lines);
    dispose(this.exact.ways);
    this.exact = null;
  }

  // one request at a time, for the newest wish: a drag over three hundred layers asks for few of them
  async #load() {
    const { number } = this.wanted;
    if (this.loading || this.kept.has(number) || this.ended) return;
    this.loading = true;
    try {
      this.kept.set(number, await fetched(`${this.url}${number}/`));
      if (this.kept.size > 24) this.kept.delete(this.kept.keys().next().value);
    } catch {
      this.kept.set(number, null);  // what is there of all layers is shown instead
    }
    this.loading = false;
    if (this.ended) return;
    this.#draw();
    if (this.wanted.number !== number) this.#load();
  }

  end() {
    this.ended = true;
    this.stage.end();
  }
}
