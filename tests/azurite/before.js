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
