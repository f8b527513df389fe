// Package pebble is the table store of one machine: Pebble, the engine under CockroachDB, with an
// fsync for every transaction. Why Pebble: docs/embedded-engine.md.
package pebble

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// etagBytes of a stored value come before the row's own.
	etagBytes = 8
	// separator ends the partition in a stored key; ValidateKey keeps it out of both parts.
	separator = 0
	// memTableBytes bounds the memory of writes that are not yet in a table file, and what a start
	// after a crash replays.
	memTableBytes = 4 << 20
	// cacheBytes bounds the memory of blocks read back. The warm cache above keeps what is hot.
	cacheBytes = 8 << 20
	// filterBits are kept of each key, for one miss in a hundred that is not told without a read.
	filterBits = 10
	// maxOpenFiles bounds the table files kept open.
	maxOpenFiles = 256
)

// ErrLocked is returned by Open for data that another process has open.
var ErrLocked = errors.New("data is in use by another process")

// ErrClosed is returned by a store that was closed.
var ErrClosed = errors.New("the data directory was closed")

// Store is a table store in a directory.
type Store struct {
	// use is held by what reads or writes, so that Close can wait for it.
	use    sync.RWMutex
	closed bool

	dir   string
	db    *pebble.DB
	cache *pebble.Cache
	lock  *pebble.Lock
	// epoch and counter make ETags that no earlier opening of the data can have given.
	epoch   uint64
	counter atomic.Uint64
	locks   sync.Map // partition to *sync.Mutex
}

var (
	_ table.Store  = (*Store)(nil)
	_ table.Lister = (*Store)(nil)
)

// Open opens the store in dir, making it when it is missing. It fails with ErrLocked, or with
// table.ErrCorrupt when a file does not hold what was written; nothing is altered then.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, vfs.Default)
	if err != nil {
		return nil, openError(dir, err)
	}
	cache := pebble.NewCache(cacheBytes)
	s := &Store{dir: dir, cache: cache, lock: lock}
	exists, err := verify(dir, lock, cache)
	if err == nil && !exists {
		err = create(dir, lock, cache)
	}
	if err == nil {
		s.db, err = pebble.Open(dir, optionsFor(cache, lock))
	}
	if err != nil {
		return nil, errors.Join(openError(dir, err), s.release())
	}
	var epoch [4]byte
	if _, err := rand.Read(epoch[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("drawing an ETag epoch: %w", err), s.Close())
	}
	s.epoch = uint64(binary.BigEndian.Uint32(epoch[:])) << 32
	return s, nil
}

// create makes an empty database. Pebble raises a new one to the newest format only once it has begun
// its first log, which would then lack what tells damage from a torn end; an opening begins another.
func create(dir string, lock *pebble.Lock, cache *pebble.Cache) error {
	db, err := pebble.Open(dir, optionsFor(cache, lock))
	if err != nil {
		return err
	}
	return db.Close()
}

// optionsFor also leaves out what Pebble would otherwise do every few milliseconds while nothing
// happens: checks of the disk's health, and offers to start a compaction. Compactions are still
// started when there is a reason: after a flush, and after another compaction.
func optionsFor(cache *pebble.Cache, lock *pebble.Lock) *pebble.Options {
	o := &pebble.Options{
		FS:           vfs.Default,
		Cache:        cache,
		Lock:         lock,
		MemTableSize: memTableBytes,
		MaxOpenFiles: maxOpenFiles,
		// The newest format marks in the log how far it was synced, so that damage before that is
		// told from the torn end of a crash.
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             &failure{},
		// Whoever reads damaged data is told so; the process goes on, as Pebble would not let it.
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}, BackgroundError: giveUp},
	}
	// A row is looked for before it is inserted, nearly always in vain.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
	}
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	return o
}

// release frees what the store holds beside the database.
func (s *Store) release() error {
	s.cache.Unref()
	return s.lock.Close()
}

func openError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EWOULDBLOCK), strings.Contains(err.Error(), "lock held"):
		return fmt.Errorf("opening %s: %w", dir, ErrLocked)
	case errors.Is(err, table.ErrCorrupt):
		return fmt.Errorf("opening %s: %w", dir, err)
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "object size mismatch"):
		return fmt.Errorf("opening %s: %w", dir, damage(dir, err))
	default:
		return fmt.Errorf("opening %s: %w", dir, err)
	}
}

// damage is Pebble's error about damaged data as an ErrCorrupt that names the file.
func damage(dir string, err error) error {
	why, _, _ := strings.Cut(err.Error(), "\n")
	if m := fileNumber.FindStringSubmatch(why); m != nil && !strings.Contains(why, dir) {
		why = filepath.Join(dir, m[1]+".sst") + ": " + why
	}
	return fmt.Errorf("%w: %s%s", table.ErrCorrupt, why, detail(err))
}

// fileNumber is how Pebble names a table file.
var fileNumber = regexp.MustCompile(`file (\d{6})\b`)

// detail returns what Pebble's error says only when asked for it: the file and the place in it.
func detail(err error) string {
	type detailed interface {
		error
		ErrorDetail() string
	}
	if d, ok := errors.AsType[detailed](err); ok && d.ErrorDetail() != "" {
		return " (" + d.ErrorDetail() + ")"
	}
	return ""
}

// failure is Pebble's logger: what it says is of no use to an operator, except before it gives up.
type failure struct{}

func (*failure) Infof(string, ...any) {}

func (*failure) Errorf(string, ...any) {}

// Fatalf is called when a write could not be made durable; going on would lose it.
func (*failure) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "zeroplane: the data directory failed: "+format+"\n", args...)
	os.Exit(1)
}

// giveUp ends the process when the disk takes no more: Pebble would try again at once, for ever, and need more
// and more memory, even before an opening has ended. Every commit that was answered is in the log.
func giveUp(err error) {
	for _, why := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, why) {
			(&failure{}).Fatalf("%v", err)
		}
	}
}

// Close waits for what is under way, flushes, and closes the store. What comes later fails with ErrClosed.
func (s *Store) Close() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.closed = true
	err := errors.Join(s.db.Flush(), s.db.Close(), s.release())
	if err != nil {
		return fmt.Errorf("closing the data directory: %w", err)
	}
	return nil
}

func storedKey(partition, key string) []byte {
	b := make([]byte, 0, len(partition)+1+len(key))
	b = append(b, partition...)
	b = append(b, separator)
	return append(b, key...)
}

func decode(key string, stored []byte) (table.Row, error) {
	if len(stored) < etagBytes {
		return table.Row{}, fmt.Errorf("row %q: %w: %d bytes", key, table.ErrCorrupt, len(stored))
	}
	return table.Row{
		Key:   key,
		ETag:  formatETag(stored),
		Value: append([]byte(nil), stored[etagBytes:]...),
	}, nil
}

// begin has Close wait until end is called. It fails with ErrClosed.
func (s *Store) begin() (end func(), err error) {
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return nil, ErrClosed
	}
	return s.use.RUnlock, nil
}

// Get implements table.Store.
func (s *Store) Get(_ context.Context, partition, key string) (table.Row, error) {
	end, err := s.begin()
	if err != nil {
		return table.Row{}, err
	}
	defer end()
	stored, closer, err := s.db.Get(storedKey(partition, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return table.Row{}, fmt.Errorf("row %q of partition %q: %w", key, partition, table.ErrNotFound)
	}
	if err != nil {
		return table.Row{}, s.readError(partition, err)
	}
	row, err := decode(key, stored)
	return row, errors.Join(err, closer.Close())
}

func (s *Store) readError(partition string, err error) error {
	if pebble.IsCorruptionError(err) {
		err = damage(s.dir, err)
	}
	return fmt.Errorf("reading partition %q: %w", partition, err)
}

// Partitions implements table.Lister. It looks at one row of each.
func (s *Store) Partitions(_ context.Context, after string) ([]string, error) {
	end, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: append([]byte(after), separator+1)})
	if err != nil {
		return nil, s.readError(after, err)
	}
	var names []string
	for ok := it.First(); ok && len(names) < table.MaxPage; {
		name, _, _ := bytes.Cut(it.Key(), []byte{separator})
		names = append(names, string(name))
		ok = it.SeekGE(append(bytes.Clone(name), separator+1))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, s.readError(after, err)
	}
	return names, nil
}

// Range implements table.Store.
func (s *Store) Range(_ context.Context, partition string, q table.Query) (table.Page, error) {
	end, err := s.begin()
	if err != nil {
		return table.Page{}, err
	}
	defer end()
	limit := q.Limit
	if limit <= 0 || limit > table.MaxPage {
		limit = table.MaxPage
	}
	from := q.From
	if q.Continue != "" {
		from = q.Continue
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: storedKey(partition, from), UpperBound: storedKey(partition, q.To)})
	if err != nil {
		return table.Page{}, s.readError(partition, err)
	}
	page, err := readPage(it, len(partition)+1, limit)
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return table.Page{}, s.readError(partition, err)
	}
	return page, nil
}

func readPage(it *pebble.Iterator, prefix, limit int) (table.Page, error) {
	var page table.Page
	for ok := it.First(); ok; ok = it.Next() {
		key := string(it.Key()[prefix:])
		if len(page.Rows) == limit {
			page.Next = key
			return page, nil
		}
		row, err := decode(key, it.Value())
		if err != nil {
			return page, err
		}
		page.Rows = append(page.Rows, row)
	}
	return page, nil
}

// Commit implements table.Store. It returns after the transaction is on disk; concurrent commits
// of several partitions share an fsync.
func (s *Store) Commit(_ context.Context, partition string, ops []table.Op) error {
	if err := table.ValidateCommit(partition, ops); err != nil {
		return err
	}
	end, err := s.begin()
	if err != nil {
		return err
	}
	defer end()
	lock, _ := s.locks.LoadOrStore(partition, &sync.Mutex{})
	mu := lock.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	batch := s.db.NewBatch()
	defer func() { _ = batch.Close() }()
	etag := s.epoch | s.counter.Add(1)&0xffffffff
	for i, op := range ops {
		if err := s.stage(batch, partition, op, etag); err != nil {
			if errors.Is(err, table.ErrExists) || errors.Is(err, table.ErrChanged) || errors.Is(err, table.ErrNotFound) {
				return &table.ConflictError{Index: i, Key: op.Key, Err: err}
			}
			return err
		}
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("committing to partition %q: %w", partition, err)
	}
	return nil
}

func (s *Store) stage(batch *pebble.Batch, partition string, op table.Op, etag uint64) error {
	key := storedKey(partition, op.Key)
	sure := op.Kind == table.Delete && op.ETag == table.Any && op.Exists // a look would read a block of the disk
	if op.Kind != table.Put && !sure {
		current, exists, err := s.etag(key)
		if err != nil {
			return s.readError(partition, err)
		}
		if err := table.Check(op, current, exists); err != nil {
			return err
		}
	}
	if op.Kind == table.Delete {
		return batch.Delete(key, nil)
	}
	d := batch.SetDeferred(len(key), etagBytes+len(op.Value))
	copy(d.Key, key)
	binary.BigEndian.PutUint64(d.Value, etag)
	copy(d.Value[etagBytes:], op.Value)
	return d.Finish()
}

// etag returns the version of a stored row and whether there is one.
func (s *Store) etag(key []byte) (etag string, exists bool, err error) {
	stored, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if len(stored) < etagBytes {
		err = fmt.Errorf("row %q: %w: %d bytes", key, table.ErrCorrupt, len(stored))
	} else {
		etag = formatETag(stored)
	}
	return etag, true, errors.Join(err, closer.Close())
}

// formatETag is the ETag of a stored row.
func formatETag(stored []byte) string {
	return strconv.FormatUint(binary.BigEndian.Uint64(stored), 16)
}
