// What the server sends to be drawn: one safetensors file.
const TYPES = { F32: Float32Array, U8: Uint8Array, I32: Int32Array };

// {points, states, facts, columns}: states are Float32Array [3 n] about the origin, the original first.
export function readBundle(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const facts = JSON.parse(header.__metadata__["becalm.page"]);
  const columns = {};
  delete header.__metadata__;
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    const values = buffer.slice(8 + size + from, 8 + size + to);
    columns[name] = { shape, values: new TYPES[dtype](values) };
  }
  const [count, points] = columns.xyz.shape;
  const xyz = columns.xyz.values;
  const states = Array.from({ length: count }, (_, i) => xyz.subarray(3 * points * i, 3 * points * (i + 1)));
  const numbers = columns.state.values;
  delete columns.xyz;
  delete columns.state;
  return { points, states, numbers, facts, columns };
}
