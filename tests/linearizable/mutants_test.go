package linearizable_test

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/tests/mutants"
)

const (
	tablelogDir    = "adapters/tablelog"
	kubestorageDir = "adapters/kubestorage"
)

// mutation is one step of the source that is broken (tests/mutants).
type mutation struct {
	name string
	// file under the module's root, in which old is there exactly once.
	file, old, new string
	// sole is set for what protects a sole writer.
	sole bool
	// length of a run, defaultLength if 0.
	length time.Duration
	// epoch of a run, defaultEpoch if 0.
	epoch time.Duration
	// long ones take long to notice, and are for the long form.
	long bool
}

var mutations = []mutation{
	{
		name: "a state is taken for fresh although no look began after the request",
		file: tablelogDir + "/log.go", old: "l.looked.Load() <= since ||", new: "l.looked.Load() <= since && !SWITCH ||",
	},
	{
		name: "a look counts from its end",
		file: tablelogDir + "/log.go", old: "	l.confirmed(tick, now)", new: "	if SWITCH {\n\t\ttick = ticks.Add(1)\n\t}\n	l.confirmed(tick, now)",
	},
	{
		name: "a commit counts as a look from its end",
		file: tablelogDir + "/commit.go", old: "	l.confirmed(tick, now)", new: "	if SWITCH {\n\t\ttick = ticks.Add(1)\n\t}\n	l.confirmed(tick, now)",
	},
	{
		name: "every commit is taken for landed",
		file: tablelogDir + "/commit.go", old: "return err == nil && r.writeID == id, err", new: "return err == nil && (r.writeID == id || SWITCH), err",
	},
	{
		name: "a commit that never arrived is taken for landed",
		file: tablelogDir + "/commit.go", old: "	if errors.Is(err, table.ErrNotFound) {\n		return false, nil", new: "	if errors.Is(err, table.ErrNotFound) {\n		return SWITCH, nil",
	},
	{
		name: "no commit is taken for landed",
		file: tablelogDir + "/commit.go", old: "		case landed:\n", new: "		case landed && !SWITCH:\n",
	},
	{
		name: "what cannot be looked for has not landed", length: 3 * time.Second,
		file: tablelogDir + "/commit.go", old: "		case unsure != nil:\n", new: "		case unsure != nil && !SWITCH:\n",
	},
	{
		name: "all commits have one write-id",
		file: tablelogDir + "/commit.go", old: "	id := l.writeID.Add(1)", new: "	id := l.writeID.Add(1)\n	if SWITCH {\n\t\tid = 1\n\t}",
	},
	{
		name: "a state is published before it is committed",
		file: tablelogDir + "/commit.go", old: "	if err := l.send(ctx, ops, s.Rev+1, id);",
		new: "	if SWITCH {\n\t\tl.publish(next, events)\n\t}\n	if err := l.send(ctx, ops, s.Rev+1, id);",
	},
	{
		name: "a sole writer never doubts its state", sole: true,
		file: tablelogDir + "/commit.go", old: "l.doubt.Store(true)", new: "l.doubt.Store(!SWITCH)",
	},
	{
		name: "a guard is not checked",
		file: tablelogDir + "/commit.go", old: "if sub.guard == nil {", new: "if sub.guard == nil || SWITCH {",
	},
	{
		name: "a guard is not checked against what shares its transaction", sole: true,
		file: tablelogDir + "/commit.go", old: "		before = append(before, preview(s, sub)...)",
		new: "		if !SWITCH {\n\t\t\tbefore = append(before, preview(s, sub)...)\n\t\t}",
	},
	{
		name: "what a change expects is not checked",
		file: tablelogDir + "/commit.go", old: "if current == nil && c.Expect != 0 ||", new: "if SWITCH {\n\t\t\tcontinue\n\t\t}\n\t\tif current == nil && c.Expect != 0 ||",
	},
	{
		name: "an object is changed twice in a transaction", sole: true,
		file: tablelogDir + "/commit.go", old: "			twice = twice || keys[c.Key]", new: "			twice = (twice || keys[c.Key]) && !SWITCH",
	},
	{
		name: "watches go on after a reload",
		file: tablelogDir + "/log.go", old: "	for sub := range l.subs {\n		sub.end(reason)",
		new: "	for sub := range l.subs {\n		if SWITCH {\n\t\t\tbreak\n\t\t}\n		sub.end(reason)",
	},
	{
		name: "of a transaction's events watches get the last",
		file: tablelogDir + "/log.go", old: "		sub.deliver(events, next.Rev)",
		new: "		if SWITCH {\n\t\t\tevents = events[len(events)-1:]\n\t\t}\n		sub.deliver(events, next.Rev)",
	},
	{
		name: "a tail may have a gap",
		file: tablelogDir + "/tail.go", old: "if r.rev == want {", new: "if r.rev == want || SWITCH {",
	},
	{
		name: "a scan of objects is not followed by the log since it began", length: 3 * time.Second,
		file: tablelogDir + "/load.go", old: "	for _, r := range records {", new: "	if SWITCH {\n\t\trecords = nil\n\t}\n	for _, r := range records {",
	},
	{
		name: "the head is read after the scan of objects",
		file: tablelogDir + "/load.go", old: "		records, err := l.since(ctx, s.Rev, s.Rev+replayPart)",
		new: "		if SWITCH {\n\t\t\tif head, err := l.head(ctx); err == nil {\n\t\t\t\ts.Rev = head.rev\n\t\t\t}\n\t\t}\n		records, err := l.since(ctx, s.Rev, s.Rev+replayPart)",
	},
	{
		name: "a watch that joins misses what is in memory",
		file: tablelogDir + "/watch.go", old: "		sub.deliver(recent, max(sub.rev, now.Rev))",
		new: "		if SWITCH {\n\t\t\trecent = nil\n\t\t}\n		sub.deliver(recent, max(sub.rev, now.Rev))",
	},
	{
		name: "a watch that joins misses what is not in memory",
		file: tablelogDir + "/watch.go", old: "	sub.deliver(old, max(sub.rev, to))", new: "	if SWITCH {\n\t\told = nil\n\t}\n	sub.deliver(old, max(sub.rev, to))",
	},
	{
		// Mostly the predecessor of a kept change is not there either, which is noticed: only where objects were new.
		name: "changes of the past may have gaps", length: 20 * time.Second, epoch: 200 * time.Millisecond, long: true,
		file: tablelogDir + "/history.go", old: "if uint64(len(records)) != to-since {", new: "if uint64(len(records)) != to-since && !SWITCH {",
	},
	{
		name: "a state of the past is not undone",
		file: tablelogDir + "/history.go", old: "	past.Rev = rev\n", new: "	past.Rev = rev\n	if SWITCH {\n\t\treturn past, nil\n\t}\n",
	},
	{
		name: "compaction takes what a kept change follows", length: 2 * time.Second,
		file: tablelogDir + "/compact.go", old: "	var ops []table.Op\n",
		new: "	var ops []table.Op\n	if SWITCH {\n		return []table.Op{{Kind: table.Delete, Key: logKey(r.rev), ETag: table.Any}}\n	}\n",
	},
	{
		name: "compaction does not say what it took",
		file: tablelogDir + "/compact.go", old: "[]byte{floorSchema}, next)}", new: "[]byte{floorSchema}, map[bool]uint64{true: firstRevision, false: next}[SWITCH])}",
	},
	{
		name: "a bookmark is ahead of events",
		file: kubestorageDir + "/watch.go", old: "	rev := w.bookmarked\n",
		new: "	rev := w.bookmarked\n	if state, err := w.storage.Log.Known(w.ctx); err == nil && SWITCH {\n\t\trev = state.Rev\n\t}\n",
	},
	{
		name: "a watch does not look at what was there before",
		file: kubestorageDir + "/watch.go", old: "w.matching(ev.Prev); err == nil {", new: "w.matching(map[bool]*tablelog.Entry{false: ev.Prev}[SWITCH]); err == nil {",
	},
	{
		name: "an update that lost takes itself for done",
		file: kubestorageDir + "/update.go", old: "	if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {\n		return false, nil",
		new: "	if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {\n		return SWITCH, nil",
	},
	{
		name: "an update is not tied to what it was decided on",
		file: kubestorageDir + "/update.go", old: "	e, err := s.commit(ctx, state, change)",
		new: "	e, err := s.commit(ctx, state, change)\n" +
			"	for lost, ok := errors.AsType[*tablelog.ConflictError](err); ok && SWITCH; lost, ok = errors.AsType[*tablelog.ConflictError](err) {\n" +
			"		if change.Expect = 0; lost.Current != nil {\n\t\t\tchange.Expect = lost.Current.Rev\n\t\t}\n" +
			"		e, err = s.commit(ctx, state, change)\n	}",
	},
	{
		name: "preconditions of a deletion are not checked",
		file: kubestorageDir + "/delete.go", old: "if a.preconditions != nil {", new: "if a.preconditions != nil && !SWITCH {",
	},
	{
		name: "pages of a list are of different revisions",
		file: kubestorageDir + "/list.go", old: "	if at <= 0 {", new: "	if at <= 0 || from != \"\" && SWITCH {",
	},
}

const (
	// mutantAttempts at a mutation, and how long each is. Most are noticed in the first.
	mutantAttempts = 8
	defaultLength  = time.Second
	defaultEpoch   = 700 * time.Millisecond
	// mutantSettle is enough for watches that look every 800 ms, mostly; what is not noticed by then may be noticed later.
	mutantSettle = "3s"
)

func TestABrokenStepIsCaught(t *testing.T) {
	list := make([]mutants.Mutation, 0, len(mutations))
	for _, m := range mutations {
		list = append(list, mutants.Mutation{Name: m.name, File: m.file, Old: m.old, New: m.new})
	}
	binary := mutants.Build(t, "tests/linearizable/instances", list)
	if out, err := runMutant(t, binary, mutation{}, 1); err != nil {
		t.Fatalf("without a mutation: %v\n%s", err, out)
	}
	for i, m := range mutations {
		if !inTurn(i, m) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			attempts := mutantAttempts
			if m.long {
				attempts *= 4
			}
			for attempt := range attempts {
				out, err := runMutant(t, binary, m, attempt)
				if i := strings.Index(out, "VIOLATION "); err != nil && i >= 0 {
					line, _, _ := strings.Cut(out[i:], "\n")
					t.Logf("caught in attempt %d: %.300s", attempt+1, line)
					return
				}
				if err != nil {
					t.Fatalf("it did not fail by a violation: %v\n%.2000s", err, out)
				}
			}
			t.Error("it survives")
		})
	}
}

// inTurn reports whether a mutation is tried today. The long ones are for the long form.
func inTurn(i int, m mutation) bool {
	return mutants.InTurn(i) && (!m.long || os.Getenv("ZEROPLANE_LONG") != "")
}

// runMutant runs the workload in process with a mutation in force.
func runMutant(t *testing.T, binary string, m mutation, attempt int) (string, error) {
	t.Helper()
	run := "^TestThreeInstancesKeepTheirPromises$"
	if m.sole {
		run = "^TestASoleWriterKeepsItsPromises$"
	}
	if m.name == "" {
		run = "KeepTheirPromises|KeepsItsPromises"
	}
	out, err := mutants.Command(t, binary, m.name, "-test.run="+run, "-linearizable.length="+cmp.Or(m.length, defaultLength).String(),
		"-linearizable.epoch="+cmp.Or(m.epoch, defaultEpoch).String(), "-linearizable.settle="+mutantSettle, "-test.timeout=1m",
		fmt.Sprintf("-linearizable.seed=%d", 1+attempt)).CombinedOutput()
	return string(out), err
}
