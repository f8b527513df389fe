// Ends Azurite when the tests that started it are gone, however they ended: they hold the other end of
// its standard input.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();
