const fs = require("fs");

const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));

let descriptor = null;
exports.mark = (seq) => {
  if (descriptor === null) descriptor = fs.openSync(process.env.BENCH_MARKS, "a");
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(seq), 0);
  bytes.writeBigInt64LE(now(), 8);
  fs.writeSync(descriptor, bytes);
};

exports.spaced = async (call, n, spacing) => {
  const times = [];
  for (let i = 0; i < n; i++) {
    const before = now();
    await call(i);
    const after = now();
    times.push([String(before), String(after)]);
    if (spacing) {
      await new Promise((done) => setTimeout(done, Math.max(0, spacing - Number(after - before) / 1e6)));
    }
  }
  return times;
};

exports.reply = (value) => fs.writeFileSync(process.env.PEERS_REPLY, JSON.stringify(value));
