// Loaded before Azurite.
const path = require('path');

// Azurite ends when the tests that started it are gone, however they ended: they hold the other end of its
// standard input.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();

// An entity may have 1 MiB. Azurite compares that with the JSON of an update, where binary properties are a third
// longer, and so refuses rows of more than some 780 KB, which the service takes. Package limits holds rows to the
// real limit.
const constants = require(path.join(path.dirname(process.argv[1]), 'utils', 'constants.js'));
constants.ENTITY_SIZE_MAX = constants.BODY_SIZE_MAX;

// A transaction of the service is atomic and is seen whole or not at all. Azurite lets requests run between a
// transaction's operations, and keeps what a failed one must undo in one place for all: one that fails takes the
// rows of another with it, and readers see rows that are then taken back. Here one request follows another.
const { AsyncLocalStorage } = require('async_hooks');
const inside = new AsyncLocalStorage();
const handler = require(path.join(path.dirname(process.argv[1]), 'handlers', 'TableHandler.js')).default.prototype;
let last = Promise.resolve();
for (const name of ['batch', 'insertEntity', 'updateEntity', 'mergeEntity', 'mergeEntityWithMerge', 'deleteEntity', 'queryEntities',
  'queryEntitiesWithPartitionAndRowKey', 'create', 'delete']) {
  const original = handler[name];
  if (typeof original !== 'function') {
    throw new Error(`this Azurite has no ${name}`);
  }
  handler[name] = function (...args) {
    if (inside.getStore()) {
      return original.apply(this, args);
    }
    const run = last.then(() => inside.run(true, () => original.apply(this, args)));
    last = run.catch(() => {});
    return run;
  };
}
