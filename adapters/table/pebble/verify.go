package pebble

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// verify reads, without altering anything, what Pebble would read to open the directory, and returns
// whether there is a database. Pebble by itself
//   - takes damage in its manifest, the list of table files, for the end of that list, and then
//     removes the table files that are not in what it read;
//   - takes damage in the last 32 KiB of its log for the end of the log, although what follows
//     proves that it was synced;
//   - has begun to write by the time it meets damage further back in its log.
func verify(dir string, lock *pebble.Lock, cache *pebble.Cache) (exists bool, err error) {
	desc, err := pebble.Peek(dir, vfs.Default)
	if err != nil {
		return false, err
	}
	if !desc.Exists {
		return false, verifyAbsence(dir)
	}
	torn, err := verifyManifest(desc.ManifestFilename)
	if err != nil {
		return true, err
	}
	options := optionsFor(cache, lock)
	options.ReadOnly = true
	db, err := pebble.Open(dir, options)
	if err != nil && strings.Contains(err.Error(), "key=value syntax") {
		err = fmt.Errorf("%s: %w", desc.OptionsFilename, err)
	}
	if err != nil {
		return true, err
	}
	if torn {
		err = verifyTables(dir, desc.ManifestFilename, db)
	}
	if closed := db.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = verifyLog(dir, desc.ManifestFilename)
	}
	return true, err
}

// verifyAbsence returns an ErrCorrupt if there is no database only because the file that names its manifest,
// an empty one that copies like to leave out, is gone. Pebble would make a new database and remove the old
// one's files. It writes that file before any other but the manifest, so nothing is there after a crash.
func verifyAbsence(dir string) error {
	for _, pattern := range []string{"*.sst", "*.log"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		if len(paths) > 0 {
			return fmt.Errorf("%s: %w: there is %s, but no marker.manifest file that names the manifest",
				dir, table.ErrCorrupt, filepath.Base(paths[0]))
		}
	}
	return nil
}

// verifyManifest returns an ErrCorrupt for a manifest with a damaged chunk, and whether its end is
// torn: its last chunk ends early, or there are zeros to the end of the file, as a crash can leave it.
func verifyManifest(path string) (torn bool, err error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return false, fmt.Errorf("reading the manifest: %w", err)
	}
	at := firstDamage(data)
	if at == len(data) {
		return false, nil
	}
	c := chunkAt(data, at)
	if at > 0 && (zeros(data[at:]) || c.end > len(data)) {
		return true, nil
	}
	return false, fmt.Errorf("%s: %w: chunk at offset %d", path, table.ErrCorrupt, at)
}

// verifyTables returns an ErrCorrupt if there are table files that a manifest with a torn end does not
// name: the end may have named them, and then there may be nothing else that holds their rows.
func verifyTables(dir, manifest string, db *pebble.DB) error {
	known := map[string]bool{}
	levels, err := db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, file := range level {
			known[fmt.Sprintf("%06d.sst", file.FileNum)] = true
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if !known[filepath.Base(path)] {
			return fmt.Errorf("%s: %w: it ends early and does not name %s", manifest, table.ErrCorrupt, filepath.Base(path))
		}
	}
	return nil
}

// firstManifest is there before the first log. When rows are written another has taken its place (create).
const firstManifest = "MANIFEST-000001"

// beingMade reports whether a directory without a log is one that was never opened: by its first manifest or, if the next
// has taken its place, by what an opening writes last, its options, whose number is above its manifest's.
func beingMade(dir, manifest string) bool {
	if filepath.Base(manifest) == firstManifest {
		return true
	}
	if _, err := os.Stat(filepath.Join(dir, firstManifest)); err != nil {
		return false
	}
	options, err := filepath.Glob(filepath.Join(dir, "OPTIONS-*"))
	if err != nil {
		return false
	}
	number := strings.TrimPrefix(filepath.Base(manifest), "MANIFEST-")
	return !slices.ContainsFunc(options, func(path string) bool {
		return strings.TrimPrefix(filepath.Base(path), "OPTIONS-") > number // of six digits both
	})
}

// verifyLog returns an ErrCorrupt if the newest log has a damaged chunk before a place that later chunks
// prove was synced. Of older logs Pebble itself allows no damage.
func verifyLog(dir, manifest string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		if beingMade(dir, manifest) {
			return nil
		}
		return fmt.Errorf("%s: %w: it has no log, a file named NUMBER.log", dir, table.ErrCorrupt)
	}
	path := paths[len(paths)-1]
	var number uint32
	if _, err := fmt.Sscanf(filepath.Base(path), "%d.log", &number); err != nil {
		return fmt.Errorf("log %s: %w", path, err)
	}
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	damage := firstDamage(data)
	if zeros(data[damage:]) {
		return nil // space that was set aside, or nothing
	}
	if provenSync(data, number) > int64(damage) {
		return fmt.Errorf("%s: %w: chunk at offset %d", path, table.ErrCorrupt, damage)
	}
	return nil
}

// provenSync returns an offset up to which the chunks of a log prove that it was synced.
//
// A chunk says how much had been synced when it was made, but Pebble counts too little: it leaves out the
// blocks that were full when they were written (record.LogWriter.flushLoop adds len(data) alone), so that
// the number is right as a mark of progress and wrong as an offset, by an amount that only grows. Progress is
// enough. When chunks say k, then more, then still more, the second sync began after the first had ended and
// so after the last chunk that says k was begun: what goes before this chunk was synced by then. That also
// gives the least by which the number was wrong, and is wrong from then on.
func provenSync(data []byte, number uint32) int64 {
	// starts of the last chunks that said each of the last three numbers, the newest last.
	var said [3]uint64
	var starts [3]int64
	var proven, wrong int64
	distinct := 0
	eachChunk(data, number, func(at int, synced uint64) {
		if distinct == 0 || synced > said[2] {
			said = [3]uint64{said[1], said[2], synced}
			starts = [3]int64{starts[1], starts[2], int64(at)}
			if distinct = min(distinct+1, len(said)); distinct == len(said) {
				wrong = max(wrong, starts[0]-int64(synced)) //nolint:gosec // offsets
			}
			proven = max(proven, int64(synced)+wrong) //nolint:gosec // offsets
			return
		}
		starts[2] = int64(at)
	})
	return proven
}

// eachChunk calls yield for the valid chunks of the log with a number, in order, with what they say was
// synced, and looks for the next one at every byte where one is damaged. A log file is used again: what it
// held before has another number.
func eachChunk(data []byte, number uint32, yield func(at int, synced uint64)) {
	for at := 0; at+syncHeaderBytes <= len(data); {
		if data[at+kindAt] >= syncKinds && binary.LittleEndian.Uint32(data[at+numberAt:]) == number {
			if c := chunkAt(data, at); c.valid {
				yield(at, c.synced)
				at = c.end
				continue
			}
		}
		at++
	}
}

// The format of Pebble's logs, of which the manifest is one (pebble/record/record.go): blocks of
// chunks, each with a header of a checksum, a length and a kind, in logs also the log's number and
// the offset up to which it was synced before.
const (
	blockBytes      = 32 << 10
	headerBytes     = 7
	lengthAt        = 4
	kindAt          = 6
	numberAt        = 7
	numberedKinds   = 5
	syncKinds       = 9
	kinds           = 13
	syncedAt        = 11
	syncHeaderBytes = 19
)

// chunk is one chunk of a log. End is where it ends if its length is right.
type chunk struct {
	end    int
	valid  bool
	synced uint64
}

func chunkAt(data []byte, at int) chunk {
	header := headerBytes
	if len(data)-at < header {
		return chunk{end: at + header}
	}
	kind := data[at+kindAt]
	switch {
	case kind >= kinds:
		return chunk{end: at + header}
	case kind >= syncKinds:
		header = syncHeaderBytes
	case kind >= numberedKinds:
		header = syncedAt
	}
	c := chunk{end: at + header + int(binary.LittleEndian.Uint16(data[at+lengthAt:]))}
	if c.end > len(data) || c.end > (at/blockBytes+1)*blockBytes {
		return c
	}
	sum := crc32.Checksum(data[at+kindAt:c.end], castagnoli)
	c.valid = kind > 0 && binary.LittleEndian.Uint32(data[at:]) == (sum>>15|sum<<17)+0xa282ead8
	if c.valid && header == syncHeaderBytes {
		c.synced = binary.LittleEndian.Uint64(data[at+syncedAt:])
	}
	return c
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// firstDamage returns the offset of the first chunk that is not valid, the length if all are.
func firstDamage(data []byte) int {
	at := 0
	for at < len(data) {
		if left := blockBytes - at%blockBytes; left < syncHeaderBytes && zeros(data[at:min(at+left, len(data))]) {
			at += left // no header fits there
			continue
		}
		c := chunkAt(data, at)
		if !c.valid {
			return at
		}
		at = c.end
	}
	return min(at, len(data))
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
