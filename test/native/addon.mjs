/**
 * The addon in a program of its own, which the tests start: `node addon.mjs <what> [...]`.
 * Plain JavaScript, so that Node.js runs it as it is, in workers too.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const built = new URL('../../build/Release/aoe_native.node', import.meta.url).pathname;
const native = createRequire(import.meta.url)(process.env.AOE_SERVER_ADDON ?? built);

const READ = 0;
const WRITE = 1;
const FLUSH = 2;
const BUFFERED = 1;
const DIRECT = 2;
const ROW_LENGTH = 8;
/** Enough for io_uring, which refuses a completion queue that is shorter than its own. */
const REQUEST_COUNT = 128;
const ACCEPT_ALL = new Uint32Array([0x06, 0, 0, 0x40000]);

export function openSocket(name, onReadable = () => {}) {
  const sent = new Int32Array(128);
  const received = new Int32Array(128);
  const outcome = new Int32Array(2);
  const socket = new native.PacketSocket(
    {
      interface: name,
      frameSizeMax: 1514,
      ringSize: 1 << 20,
      filter: ACCEPT_ALL,
      slab: new ArrayBuffer(4096),
      received,
      arrivals: new Float64Array(64),
      sent,
      outcome,
      sentUs: new Float64Array(1),
    },
    onReadable,
  );
  return Object.assign(socket, { sent, outcome });
}

function openRing(uring, onCompletions = () => {}) {
  const requestCount = REQUEST_COUNT;
  const rows = new Int32Array(requestCount * ROW_LENGTH);
  const offsets = new Float64Array(requestCount);
  const completions = new Int32Array(2 * requestCount);
  const ring = new native.FileRing(
    { requestCount, rows, offsets, completions, uring },
    onCompletions,
  );
  if (ring.engine !== (uring ? 'io_uring' : 'threads')) throw new Error('another engine');
  return { ring, rows, offsets, completions };
}

/** Starts a write, a flush and a read, and does not wait for them. */
function startFileIo(path, uring) {
  const { ring, rows } = openRing(uring);
  const region = ring.registerMemory(native.allocateSlab(64 * 1024));
  const fd = openSync(path, 'r+');
  const file = ring.addFile(fd, BUFFERED);
  [WRITE, FLUSH, READ].forEach((op, request) => {
    const place = 8192 * request;
    rows.set([op, file, region, place, 8192, region, place, request], request * ROW_LENGTH);
  });
  ring.kick(3);
  return { ring, fd };
}

/** Starts tasks on a file, more than there are threads, and waits for none. */
function startFileTasks(path) {
  const tasks = new native.FileTasks(2);
  tasks.open(path, constants.O_RDWR, 0).then(async (fd) => {
    const uses = [
      tasks.write(fd, new Uint8Array(8192), 8192, 0, true),
      tasks.read(fd, new Uint8Array(8192), 0),
      tasks.flush(fd),
      tasks.size(fd),
    ];
    await Promise.all(uses);
    await tasks.close(fd);
  });
  return tasks;
}

/** Does the same in several places of a file at once, when something is read from standard input. */
function doWhenTold(path, flags, mode, op, uring) {
  const requestCount = 8;
  const bytes = op === FLUSH ? 0 : 4096;
  let count = 0;
  const { ring, rows, offsets, completions } = openRing(uring, () => {
    const ended = ring.reap();
    for (let i = 0; i < ended; i++) if (completions[2 * i + 1] !== 0) process.exit(2);
    count += ended;
    if (count === requestCount) process.exit(0);
  });
  const region = ring.registerMemory(native.allocateSlab(requestCount * 4096));
  process.stdin.once('data', () => {
    for (let request = 0; request < requestCount; request++) {
      const place = request * 4096;
      const file = ring.addFile(openSync(path, flags), mode);
      rows.set([op, file, region, place, bytes, region, place, request], request * ROW_LENGTH);
      offsets[request] = op === FLUSH ? 0 : place;
    }
    ring.kick(requestCount);
  });
  console.log('ready');
}

/** What a program does one after the other; a test ends it after each. */
const STEPS = {
  load: () => {},
  slab: () => native.allocateSlab(1 << 20).byteLength,
  watch: (held) => {
    held.watch = new native.InterfaceWatch(() => {});
  },
  ring: (held) => {
    held.idleRing = openRing(true);
  },
  'file I/O': (held) => {
    held.uring = startFileIo(held.path, true);
  },
  'file I/O on threads': (held) => {
    held.threads = startFileIo(held.path, false);
  },
  'file tasks': (held) => {
    held.tasks = startFileTasks(held.path);
  },
  socket: (held) => {
    held.socket = openSocket('lo');
  },
  'a step of the socket': (held) => {
    held.socket.next(0, 100);
    held.socket.statistics();
  },
  'closing the socket': (held) => {
    held.socket.close();
    held.socket.close();
    if (held.socket.next(0, 0) !== 0 || held.socket.ring.byteLength !== 0) throw new Error('open');
  },
  'closing the rings': (held) => {
    for (const { ring, fd } of [held.uring, held.threads]) {
      ring.close();
      ring.close();
      closeSync(fd);
    }
    held.idleRing.ring.close();
  },
  'closing the watch': (held) => {
    held.watch.close();
    held.watch.close();
  },
};

/** Does the first `count` steps. */
function doSteps(count, path) {
  const held = { path };
  for (const step of Object.values(STEPS).slice(0, count)) step(held);
  return held;
}

/** Leaves wrappers of every kind to the garbage collector, open and closed ones. */
async function collect(path) {
  for (let round = 0; round < 20; round++) {
    doSteps(Object.keys(STEPS).length, path);
    doSteps(Object.keys(STEPS).length - 3, path);
    global.gc();
    await new Promise((resolve) => setImmediate(resolve));
    global.gc();
  }
  process.exit(0);
}

/** Ends workers while sockets and rings are open and busy. */
async function terminate(count, path) {
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { count, path } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
  }
}

const MAIN = {
  names: () => console.log(JSON.stringify(Object.keys(STEPS))),
  exit: (count, path) => {
    doSteps(Number(count), path);
    process.exit(0);
  },
  end: (count, path) => doSteps(Number(count), path),
  collect,
  terminate: (count, path) => terminate(Number(count), path),
  /** Prints how opening an interface fails. */
  open: (name) => {
    try {
      openSocket(name);
      console.log('{}');
    } catch ({ code, errno, syscall, message }) {
      console.log(JSON.stringify({ code, errno, syscall, message }));
    }
    process.exit(0);
  },
  /** Opens an interface, and stays. */
  keepOpen: (name) => {
    const socket = openSocket(name);
    console.log('open');
    setInterval(() => socket, 1000);
  },
  /** A callback that throws must reach the program, and not silence the next one. */
  throw: async (path) => {
    let callCount = 0;
    process.on('uncaughtException', ({ message }) => {
      if (message !== 'from a callback') process.exit(2);
      if (++callCount === 2) process.exit(0);
      startAgain();
    });
    const startAgain = () => {
      const { ring, rows } = openRing(false, () => {
        ring.reap();
        throw new Error('from a callback');
      });
      const region = ring.registerMemory(native.allocateSlab(8192));
      const file = ring.addFile(openSync(path, 'r+'), BUFFERED);
      rows.set([FLUSH, file, region, 0, 0, region, 0, 0]);
      ring.kick(1);
    };
    startAgain();
  },
  /** Locks an image, starts a write past the page cache, and stays. */
  hold: (path) => {
    const { ring, rows } = openRing(true);
    const region = ring.registerMemory(native.allocateSlab(4096));
    const fd = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    if (native.lockImage(fd, 0, 4096, true) <= 0) throw new Error('in use');
    rows.set([WRITE, ring.addFile(fd, DIRECT), region, 0, 4096, region, 0, 0]);
    console.log(ring.kick(1));
    setInterval(() => ring, 1000);
  },
  /** Locks the next sector of an image, to read (r) or to write (w), as it is told: prints the lock. */
  lockSectors: (path) => {
    let start = 0;
    process.stdin.on('data', (mode) => {
      const writes = `${mode}` === 'w';
      const fd = openSync(path, writes ? 'r+' : 'r');
      console.log(native.lockImage(fd, start, start + 512, writes));
      start += 512;
    });
  },
  /** Looks at an interface when there is no descriptor left. */
  lookWithoutDescriptor: (name) => {
    try {
      for (;;) openSync('/dev/null');
    } catch {
      process.exit(native.readInterface(name) === undefined ? 2 : 0);
    }
  },
  flushDirectory: async (path) => {
    process.exit(-(await new native.FileTasks(1).flushDirectory(path)));
  },
  /** Each when something is read from standard input. */
  flush: (path, uring) => doWhenTold(path, constants.O_RDWR, BUFFERED, FLUSH, uring === 'true'),
  fileTask: (path) => {
    process.stdin.once('data', async () => {
      const tasks = new native.FileTasks(1);
      const fd = await tasks.open(path, constants.O_RDWR, 0);
      process.exit((await tasks.size(fd)) === 1 << 20 ? 0 : 2);
    });
    console.log('ready');
  },
  /** There is no room on the disk for it yet: io_uring needs a thread to make some. */
  fillHole: (path, uring) => {
    doWhenTold(path, constants.O_RDWR | constants.O_DIRECT, DIRECT, WRITE, uring === 'true');
  },
};

if (isMainThread) {
  const [what, ...args] = process.argv.slice(2);
  await MAIN[what](...args);
} else {
  const held = doSteps(workerData.count, workerData.path);
  const { parentPort } = await import('node:worker_threads');
  parentPort.postMessage('busy');
  // Keeps what is open from being collected.
  setInterval(() => held, 1000);
}
