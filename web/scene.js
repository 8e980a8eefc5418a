// A bed to look at in 3D: what the views of models and of G-code share. Heavy (three.js): imported only by pages that
// show something, and only when they do. Drawn when something changed, not sixty times a second.
//
// World: mm, z up, the middle of the bed at the origin.
import {
  AmbientLight, BufferGeometry, Color, DirectionalLight, Float32BufferAttribute, Group, LineBasicMaterial, LineSegments, Mesh,
  MeshBasicMaterial, PerspectiveCamera, PlaneGeometry, Scene, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

const GRID = 10, STRONG = 50;  // mm between lines
const TURN = 2.5;  // turns a minute
const STEP = Math.PI / 18;  // of a key
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Frees what a part of a scene holds on the graphics card. */
export function dispose(object) {
  object.removeFromParent();
  object.traverse((part) => {
    part.geometry?.dispose();
    part.material?.dispose();
  });
}

export class Stage {
  /** A canvas at the beginning of `root`. Throws where there is no WebGL. */
  constructor(root, label) {
    this.root = root;
    const canvas = document.createElement("canvas");  // asked by ourselves: three.js complains on the console
    const context = canvas.getContext("webgl2", { alpha: true, antialias: true, depth: true, powerPreference: "low-power" });
    if (!context) throw new Error("There is no WebGL");
    this.renderer = new WebGLRenderer({ canvas, context, antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(32, 1, 1, 10_000);
    this.camera.up.set(0, 0, 1);
    const lamp = new DirectionalLight(0xffffff, 2.2);
    lamp.position.set(-0.6, 0.7, 0.8);
    this.camera.add(lamp);
    this.scene.add(this.camera, new AmbientLight(0xffffff, 1.1));
    this.canvas = this.renderer.domElement;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${label}. Arrow keys turn it, plus and minus zoom, 0 shows all of it.`);
    root.prepend(this.canvas);
    this.#control();
    this.resizing = new ResizeObserver(() => this.#resize());
    this.resizing.observe(root);
    this.seeing = new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; this.ask(); });
    this.seeing.observe(root);
    this.repaint = () => { this.#paintBed(); this.ask(); };
    dark.addEventListener("change", this.repaint);
    this.canvas.addEventListener("webglcontextrestored", this.repaint);
    this.focus = { centre: new Vector3(), radius: 150 };
    this.#resize();
  }

  #control() {
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.maxPolarAngle = Math.PI * 0.62;
    this.controls.enableZoom = false;  // a page is scrolled past it; who clicked into it means it
    this.controls.autoRotateSpeed = -TURN;
    this.canvas.style.touchAction = "pan-y";
    this.canvas.addEventListener("focus", () => { this.controls.enableZoom = true; });
    this.canvas.addEventListener("blur", () => { this.controls.enableZoom = false; });
    this.canvas.addEventListener("touchstart", (event) => { this.controls.enableZoom = event.touches.length > 1; }, { passive: true, capture: true });
    this.controls.addEventListener("start", () => { this.controls.autoRotate = false; });
    this.controls.addEventListener("change", () => this.ask());
    this.canvas.addEventListener("keydown", (event) => {
      const act = this.#keys()[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.controls.autoRotate = false;
      act();
    });
  }

  #keys() {
    return {
      ArrowLeft: () => this.swing(-STEP, 0), ArrowRight: () => this.swing(STEP, 0),
      ArrowUp: () => this.swing(0, -STEP), ArrowDown: () => this.swing(0, STEP),
      "+": () => this.zoom(0.85), "=": () => this.zoom(0.85), "-": () => this.zoom(1 / 0.85), 0: () => this.frame(),
    };
  }

  /** Moves the eye around what is looked at, radians. */
  swing(sideways, down) {
    const way = this.camera.position.clone().sub(this.controls.target), far = way.length();
    const polar = Math.min(Math.max(Math.acos(way.z / far) + down, 0.01), this.controls.maxPolarAngle);
    const around = Math.atan2(way.y, way.x) + sideways;
    way.set(Math.sin(polar) * Math.cos(around), Math.sin(polar) * Math.sin(around), Math.cos(polar)).multiplyScalar(far);
    this.camera.position.copy(this.controls.target).add(way);
    this.controls.update();
    this.ask();
  }

  zoom(factor) {
    this.camera.position.sub(this.controls.target).multiplyScalar(factor).add(this.controls.target);
    this.controls.update();
    this.ask();
  }

  /** Looks at all of what lies within a radius of a point, from where it looks, or from the front right and above. */
  frame(centre = this.focus.centre, radius = this.focus.radius, anew = true) {
    this.focus = { centre: centre.clone(), radius };
    const narrow = Math.min(1, this.camera.aspect);
    const far = (radius * 0.96) / Math.sin((this.camera.fov * Math.PI) / 360) / narrow;
    const from = anew ? new Vector3(0.52, -0.85, 0.55) : this.camera.position.clone().sub(this.controls.target);
    this.controls.target.copy(centre);
    this.camera.position.copy(centre).add(from.normalize().multiplyScalar(far));
    Object.assign(this.camera, { near: far / 100, far: far * 10 });
    this.camera.updateProjectionMatrix();
    this.controls.update();
    this.ask();
  }

  /** Lets it turn slowly until somebody takes hold of it; not for those who asked for less motion. */
  turn() {
    this.controls.autoRotate = !calm.matches;
    this.ask();
  }

  /** The bed of a printer: width, depth, height in mm; x and y of its front left corner. */
  bed({ width, depth, height, x, y }) {
    if (this.plate) dispose(this.plate);
    this.size = { width, depth, height, x, y };
    const left = -width / 2, front = -depth / 2, fine = [], strong = [];
    const across = (from, to, lay) => {
      for (let at = Math.ceil(from / GRID) * GRID; at <= to; at += GRID) (at % STRONG ? fine : strong).push(...lay(at));
    };
    across(x, x + width, (at) => [at - x + left, front, 0, at - x + left, -front, 0]);
    across(y, y + depth, (at) => [left, at - y + front, 0, -left, at - y + front, 0]);
    const sheet = new Mesh(new PlaneGeometry(width, depth), new MeshBasicMaterial({ transparent: true, depthWrite: false }));
    sheet.position.z = -0.05;
    this.plate = new Group();
    this.plate.add(sheet, lines(fine), lines(strong), lines(edges(width, depth, 0)), lines(edges(width, depth, height)), lines(corner(left, front)));
    this.scene.add(this.plate);
    this.#paintBed();
    this.ask();
  }

  #paintBed() {
    if (!this.plate) return;
    const style = getComputedStyle(this.root), colour = (name) => new Color(style.getPropertyValue(name).trim());
    const [sheet, fine, strong, border, roof, mark] = this.plate.children;
    sheet.material.color = colour("--surface");
    sheet.material.opacity = 0.85;
    for (const [part, name, opacity] of [[fine, "--line", 0.6], [strong, "--line-strong", 0.45], [border, "--line-strong", 1], [roof, "--line-strong", 0.35], [mark, "--red", 1]]) {
      part.material.color = colour(name);
      part.material.opacity = opacity;
    }
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return;
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.ask();
  }

  /** Draws soon, once, however often it is asked. */
  ask() {
    if (this.asked || this.seen === false || this.ended) return;
    this.asked = true;
    requestAnimationFrame((now) => {
      this.asked = false;
      if (this.ended) return;
      const passed = Math.min((now - (this.drawn ?? now)) / 1000, 0.1);
      this.drawn = now;
      if (this.controls.autoRotate) {
        this.controls.update(passed);
        this.ask();
      }
      this.renderer.render(this.scene, this.camera);
    });
  }

  end() {
    this.ended = true;
    this.resizing.disconnect();
    this.seeing.disconnect();
    dark.removeEventListener("change", this.repaint);
    this.controls.dispose();
    dispose(this.scene);
    this.renderer.dispose();
    this.renderer.forceContextLoss();
    this.canvas.remove();
  }
}

function lines(points) {
  const geometry = new BufferGeometry().setAttribute("position", new Float32BufferAttribute(points, 3));
  return new LineSegments(geometry, new LineBasicMaterial({ transparent: true, depthWrite: false }));
}

function edges(width, depth, z) {
  const x = width / 2, y = depth / 2;
  return [-x, -y, z, x, -y, z, x, -y, z, x, y, z, x, y, z, -x, y, z, -x, y, z, -x, -y, z];
}

// which corner is the front left one
function corner(left, front) {
  return [left, front, 0.1, left + 15, front, 0.1, left, front, 0.1, left, front + 15, 0.1];
}
