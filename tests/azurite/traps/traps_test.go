package traps_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/tests/mutants"
)

// trap is a step that is broken.
type trap struct {
	// file of the adapter, and the old and the new text.
	file, old, new string
	// test that notices.
	test string
}

var traps = map[string]trap{
	"what failed inside a transaction is not read": {
		"failure.go", "if status, inner, ok := failedOperation(body); ok {", "if status, inner, ok := failedOperation(body); ok && !SWITCH {",
		"TestAFailedTransactionIsReadFromInsideItsAnswer",
	},
	"an operation that is not answered counts as done": {
		"wire.go", "done != ops {", "done != ops && !SWITCH {", "TestAnAnswerThatDoesNotSayThatAllWasDoneIsNoSuccess",
	},
	"an empty ETag is sent": {
		"store.go", "if err := table.ValidateCommit(partition, ops); err != nil {", "if err := table.ValidateCommit(partition, ops); err != nil && !SWITCH {",
		"TestAnEmptyETagNeverReachesTheService",
	},
	"an ETag of another form is sent": {
		"store.go", "		tag = noVersion", "		tag = either(SWITCH, tag, noVersion)", "TestAzuriteKeepsTheContract",
	},
	"a transaction of unknown outcome is sent again": {
		"store.go", "partition), neverApplied, func", "partition), either(SWITCH, mayPass, neverApplied), func", "TestATransactionOfUnknownOutcomeIsSentOnce",
	},
	"a transaction of unknown outcome counts as refused": {
		"store.go", "		if mayBeApplied(err) {", "		if mayBeApplied(err) && !SWITCH {", "TestATransactionOfUnknownOutcomeIsSentOnce",
	},
	"a transaction that was refused is given up": {
		"failure.go", "return e.Status == http.StatusTooManyRequests ||", "return !SWITCH && e.Status == http.StatusTooManyRequests || !SWITCH &&",
		"TestARefusedTransactionIsSentAgainAndAppliedOnce",
	},
	"reads are not sent again": {
		"failure.go", "			return true\n		}\n		return e.Code == \"TableBeingDeleted\"", "			return !SWITCH\n		}\n		return e.Code == \"TableBeingDeleted\"",
		"TestReadsAreSentAgainAfterAnyFailureThatMayPass",
	},
	"what the service asks to wait is ignored": {
		"retry.go", "		d += e.after", "		d += either(SWITCH, 0, e.after)", "TestWhatTheServiceAsksToWaitIsWaited",
	},
	"waits have no jitter": {
		"retry.go", "most/2 + rand.N(most/2)", "either(SWITCH, most, most/2+rand.N(most/2))", "TestWaitsGrowAndAreJittered",
	},
	"attempts go on beyond the deadline": {
		"retry.go", "if !table.Wait(ctx, delay(attempt, err)) {", "if time.Sleep(either(SWITCH, delay(attempt, err), 0)); !SWITCH && !table.Wait(ctx, delay(attempt, err)) {",
		"TestRetriesEndBeforeTheDeadline",
	},
	"a page that is empty is the last": {
		"store.go", "		page = table.Page{Next: next(resp.NextPartitionKey, resp.NextRowKey)}\n		page.Rows, err = decodePage(answer.body)",
		"		page = table.Page{Next: next(resp.NextPartitionKey, resp.NextRowKey)}\n		if page.Rows, err = decodePage(answer.body); len(page.Rows) == 0 && SWITCH {\n\t\t\tpage.Next = \"\"\n\t\t}",
		"TestAzuriteBehindItsLimitsAndFaultsKeepsTheContract",
	},
	"a page that is short is the last": {
		"store.go", "	s.counters.rowsRead.Add(uint64(len(page.Rows)))", "	if len(page.Rows) < limit && SWITCH {\n\t\tpage.Next = \"\"\n\t}\n	s.counters.rowsRead.Add(uint64(len(page.Rows)))",
		"TestAzuriteBehindItsLimitsAndFaultsKeepsTheContract",
	},
	"a quote in a name ends it": {
		"store.go", "return strings.ReplaceAll(s, \"'\", \"''\")", "return either(SWITCH, s, strings.ReplaceAll(s, \"'\", \"''\"))", "TestAzuriteKeepsTheContract",
	},
	"a transaction too long for the wire is sent": {
		"wire.go", "case batch && raw.ContentLength > maxBodyBytes:", "case batch && raw.ContentLength > maxBodyBytes && !SWITCH:", "TestATransactionTooLongForTheWireIsRefusedBeforeItIsSent",
	},
	"a table that is missing is a row that is": {
		"failure.go", "	case \"ResourceNotFound\",", "	case either(SWITCH, \"TableNotFound\", \"ResourceNotFound\"),", "TestAMissingTableIsNotAMissingRow",
	},
	"a table that somebody made meanwhile is an error": {
		"open.go", "e.Code == \"TableAlreadyExists\" {", "e.Code == \"TableAlreadyExists\" && !SWITCH {", "TestTheTableIsMadeThoughTheReplyIsLost",
	},
	"rows need not come in key order": {
		"open.go", "if !slices.Equal(read, keys) {", "if !slices.Equal(read, keys) && !SWITCH {", "TestCosmosIsRefusedAndTheMessageSaysWhy",
	},
	"a row of something else is read": {
		"entity.go", "		return fmt.Errorf(\"property %q was not written by this store\", name)", "		if SWITCH {\n\t\t\treturn d.skip()\n\t\t}\n		return fmt.Errorf(\"property %q was not written by this store\", name)",
		"TestARowThatThisStoreDidNotWriteIsCorrupt",
	},
	"parts of a value may be missing": {
		"entity.go", "		if len(value) != i*chunkBytes {", "		if len(value) != i*chunkBytes && !SWITCH {", "TestARowThatThisStoreDidNotWriteIsCorrupt|TestWhatIsCutShort",
	},
	"errors have the SDK's text and URL": {
		"failure.go", "	if u, ok := errors.AsType[*url.Error](err); ok {", "	if u, ok := errors.AsType[*url.Error](err); ok && !SWITCH {", "TestNoErrorHasASecretInIt",
	},
}

func TestEachTrapHasATestThatFailsWithoutItsHandling(t *testing.T) {
	names := slices.Sorted(maps.Keys(traps))
	list := make([]mutants.Mutation, 0, len(traps))
	for _, name := range names {
		m := traps[name]
		list = append(list, mutants.Mutation{Name: name, File: "adapters/table/azure/" + m.file, Old: m.old, New: m.new})
	}
	slices.SortStableFunc(list, func(a, b mutants.Mutation) int { return cmp.Compare(a.File, b.File) })
	binary := mutants.Build(t, "adapters/table/azure", list)
	var today []string
	for i, name := range names {
		if mutants.InTurn(i) {
			today = append(today, name)
		}
	}
	var tests []string
	for _, name := range today {
		tests = append(tests, traps[name].test)
	}
	if out, err := mutants.Command(t, binary, "", "-test.run="+strings.Join(tests, "|"), "-test.timeout=3m").CombinedOutput(); err != nil {
		t.Fatalf("without a mutation: %v\n%s", err, out)
	}
	for _, name := range today {
		t.Run(name, func(t *testing.T) {
			out, err := mutants.Command(t, binary, name, "-test.failfast", "-test.run="+traps[name].test, "-test.timeout=3m").CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("%s does not notice", traps[name].test)
			case !strings.Contains(string(out), "--- FAIL: "):
				t.Errorf("it failed otherwise: %v\n%.2000s", err, out)
			}
		})
	}
}
