package naming_test

import (
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/core/naming"
)

func TestNamesDifferBySeedAndAreNotTaken(t *testing.T) {
	free := func(string) bool { return false }
	first := naming.Generate("pod-claim-", 7, free)
	if len(first) != len("pod-claim-")+5 || !strings.HasPrefix(first, "pod-claim-") || naming.Generate("pod-claim-", 7, free) != first {
		t.Errorf("the name is %q", first)
	}
	names := map[string]bool{}
	for seed := range uint64(1000) {
		names[naming.Generate("pod-claim-", seed, free)] = true
	}
	if len(names) < 990 { // of a million
		t.Errorf("a thousand seeds give %d names", len(names))
	}
	if next := naming.Generate("pod-claim-", 7, func(name string) bool { return name == first }); next == first {
		t.Errorf("%q is taken", next)
	}
	if long := naming.Generate(strings.Repeat("x", 100), 7, free); len(long) != 63 {
		t.Errorf("a long name has %d characters", len(long))
	}
}
