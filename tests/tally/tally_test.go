package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	for claim, tc := range map[string]struct {
		events []string
		shown  string
		counts counts
	}{
		"nothing run counts nothing": {},
		"a package that passes shows one line": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestB"}`,
				`{"Action":"skip","Package":"p","Test":"TestB"}`,
				`{"Action":"pass","Package":"p","Elapsed":1.5}`,
			},
			shown:  "ok   p (1 passed, 0 failed, 1 skipped, 1.5s)\n",
			counts: counts{passed: 1, skipped: 1},
		},
		"what a test measured is shown although it passed": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"figure: 3 things\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p","Elapsed":1}`,
			},
			shown:  "ok   p (1 passed, 0 failed, 1s)\n     3 things\n",
			counts: counts{passed: 1},
		},
		"a package without tests shows nothing": {
			events: []string{
				`{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}`,
				`{"Action":"skip","Package":"p"}`,
			},
		},
		"a failure shows its output and not that of others": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"a is fine\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestB"}`,
				`{"Action":"output","Package":"p","Test":"TestB","Output":"b is not\n"}`,
				`{"Action":"fail","Package":"p","Test":"TestB"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\n"}`,
				`{"Action":"fail","Package":"p","Elapsed":2}`,
			},
			shown:  "FAIL p (1 passed, 1 failed, 2s)\nb is not\nFAIL\n",
			counts: counts{passed: 1, failed: 1},
		},
		"subtests count in place of their test": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x/deep"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x/deep"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"run","Package":"p","Test":"TestA/y"}`,
				`{"Action":"fail","Package":"p","Test":"TestA/y"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			shown:  "FAIL p (1 passed, 1 failed, 0s)\n",
			counts: counts{passed: 1, failed: 1},
		},
		"a test that fails by itself counts beside its subtests": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			shown:  "FAIL p (1 passed, 1 failed, 0s)\n",
			counts: counts{passed: 1, failed: 1},
		},
		"a package that does not build is a failure and shows why": {
			events: []string{
				`{"ImportPath":"p [p.test]","Action":"build-output","Output":"# p\n"}`,
				`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1: undefined: x\n"}`,
				`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
				`{"Action":"start","Package":"p"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
				`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			},
			shown:  "FAIL p (0 passed, 1 failed, 0s)\n# p\np.go:1: undefined: x\nFAIL\tp [build failed]\n",
			counts: counts{failed: 1},
		},
		"a run that is cut off has failed": {
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestB"}`,
				`killed`,
			},
			shown:  "killed\nFAIL p (1 passed, 1 failed, 0s)\n",
			counts: counts{passed: 1, failed: 1},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			var in, shown strings.Builder
			for _, event := range tc.events {
				in.WriteString(event + "\n")
			}
			got, err := read(strings.NewReader(in.String()), &shown)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.counts, got, cmp.AllowUnexported(counts{})); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.shown, shown.String()); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunWritesTheCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counts")
	in := strings.NewReader(`{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}`)
	if err := run([]string{"-counts", path}, in, &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "1 0 0\n" {
		t.Errorf("counts are %q", got)
	}
}

func TestRunWithoutAFileForTheCountsIsRefused(t *testing.T) {
	if err := run(nil, strings.NewReader(""), &strings.Builder{}); err == nil {
		t.Error("no error")
	}
}
