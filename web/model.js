// A model on the bed of a printer, as it will stand there: its surface comes from the farm (see slicing/shape.py).
import { BufferAttribute, BufferGeometry, DoubleSide, Euler, Matrix4, Mesh, MeshPhongMaterial, Vector3 } from "three";
import { Stage } from "./scene.js";

const MAGIC = 0x314d4650;  // "PFM1"
const BLUE = 0x4a8fd0, RED = 0xd8453a;

function read(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== MAGIC) throw new Error("not a shape");
  const [vertices, triangles, ofFile] = new Uint32Array(buffer, 4, 3), frame = new Float32Array(buffer, 16, 6);
  const faces = new Uint32Array(buffer, 40, 3 * triangles), steps = new Uint16Array(buffer, 40 + 12 * triangles, 3 * vertices);
  const points = new Float32Array(3 * vertices);
  // about its own middle: where its file puts it says nothing, and single precision is fine near zero
  for (let i = 0; i < points.length; i++) points[i] = (steps[i] - 32767.5) * frame[3 + (i % 3)];
  return { points, faces, coarse: triangles < ofFile };
}

export class ModelView {
  /** Where `root` says (data-shape) is a model; throws where there is no WebGL, rejects when there is no model. */
  static async open(root) {
    const stage = new Stage(root, root.dataset.label);
    try {
      const answer = await fetch(root.dataset.shape);
      if (!answer.ok) throw new Error(`${answer.status}`);
      return new ModelView(stage, read(await answer.arrayBuffer()));
    } catch (error) {
      stage.end();
      throw error;
    }
  }

  constructor(stage, { points, faces, coarse }) {
    this.stage = stage;
    this.points = points;
    this.coarse = coarse;
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(points, 3));
    geometry.setIndex(new BufferAttribute(faces, 1));
    this.mesh = new Mesh(geometry, new MeshPhongMaterial({ flatShading: true, side: DoubleSide, shininess: 25, specular: 0x222222 }));
    this.mesh.matrixAutoUpdate = false;
    stage.scene.add(this.mesh);
  }

  /** Stands it in the middle of a bed, scaled along its own axes, then turned by degrees about the fixed axes x, y and z
   * (as slicing/placement.py does). Its size in mm. */
  stand(scale, rotation) {
    const turn = new Euler(...rotation.map((angle) => (angle * Math.PI) / 180), "ZYX");
    const matrix = new Matrix4().makeRotationFromEuler(turn).scale(new Vector3(...scale));
    const low = new Vector3(Infinity, Infinity, Infinity), high = low.clone().negate(), point = new Vector3();
    for (let i = 0; i < this.points.length; i += 3) {
      point.fromArray(this.points, i).applyMatrix4(matrix);
      low.min(point);
      high.max(point);
    }
    matrix.premultiply(new Matrix4().makeTranslation(-(low.x + high.x) / 2, -(low.y + high.y) / 2, -low.z));
    this.mesh.matrix.copy(matrix);
    this.mesh.matrixWorldNeedsUpdate = true;
    this.size = high.sub(low);
    this.stage.ask();
    return this.size.toArray();
  }

  paint(fits) {
    this.mesh.material.color.set(fits ? BLUE : RED);
    this.stage.ask();
  }

  /** Looks at the model with some of the bed around it. */
  frame(anew) {
    const { width, depth } = this.stage.size, { x, y, z } = this.size;
    const radius = Math.max(Math.hypot(x, y, z) / 2, Math.min(width, depth) * 0.14);
    this.stage.frame(new Vector3(0, 0, Math.max(z / 2, radius * 0.25)), radius, anew);
  }
}
