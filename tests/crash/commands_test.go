package crash_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/tests/local"
)

// TestEveryCommandHasHelp with what it is for, on standard output.
func TestEveryCommandHasHelp(t *testing.T) {
	for _, command := range []string{
		"", "serve", "cluster", "cluster create", "cluster list", "cluster delete", "cluster kubeconfig", "kubectl", "version",
		"completion", "completion bash",
	} {
		got := local.Run(t, append(strings.Fields(command), "--help")...)
		if got.Code != 0 || got.Stderr != "" || !strings.Contains(got.Stdout, "Usage:") {
			t.Errorf("zeroplane %s --help: exit code %d, standard error %q, standard output:\n%s", command, got.Code, got.Stderr, got.Stdout)
		}
		if command != "kubectl" && !strings.Contains(got.Stdout, strings.TrimSpace("zeroplane "+command)) {
			t.Errorf("zeroplane %s --help does not say how to call it:\n%s", command, got.Stdout)
		}
	}
}

func TestVersionsAreTold(t *testing.T) {
	if got := local.Run(t, "version"); got.Code != 0 || !strings.Contains(got.Stdout, "Kubernetes v1.37") {
		t.Errorf("exit code %d, %q", got.Code, got.Stdout)
	}
	got := local.Run(t, "version", "-o", "json")
	var versions map[string]string
	if err := json.Unmarshal([]byte(got.Stdout), &versions); err != nil || !strings.HasPrefix(versions["kubernetes"], "v1.37") || versions["zeroplane"] == "" {
		t.Errorf("%q: %v", got.Stdout, err)
	}
}

func TestShellsCanComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := local.Run(t, "completion", shell); got.Code != 0 || !strings.Contains(got.Stdout, "zeroplane") {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, got.Code, len(got.Stdout))
		}
	}
	for words, want := range map[string]string{
		"cluster |":                     "kubeconfig\t",
		"kubectl|":                      "kubectl\tRun kubectl",
		"kubectl |":                     "get\tDisplay",
		"--log-level=debug kubectl ge|": "get\tDisplay",
		"kubectl rollout |":             "undo\t",
		"kubectl get --outp|":           "--output\t",
		"version -o |":                  "json\n",
		"--log-level |":                 "warn\n",
	} {
		line, _ := strings.CutSuffix(words, "|")
		got := local.Run(t, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if !strings.Contains("\n"+got.Stdout, "\n"+want) || !strings.HasSuffix(got.Stdout, "\n:4\n") { // and no names of files
			t.Errorf("%s completes to %q", words, got.Stdout)
		}
	}
}

// TestWhatIsWrongIsSaid in one line, with exit code 1.
func TestWhatIsWrongIsSaid(t *testing.T) {
	for command, want := range map[string]string{
		"serve --simulate-nodes=-1":            "--simulate-nodes must not be negative",
		"serve --max-awake=0":                  "--max-awake must be 1 or more",
		"serve --max-awake=-1":                 "--max-awake must be 1 or more",
		"serve --data=":                        "--data must not be empty",
		"serve --listen=":                      "--listen must not be empty",
		"serve --kubeconfig=DIR --data=DIR/no": "--kubeconfig must name a file",
		"serve --nonsense":                     "unknown flag: --nonsense",
		"serve extra":                          "unknown command",
		"serve --listen=nowhere --data=DIR":    "listening: listen tcp: address nowhere: missing port in address",
		"nonsense":                             `unknown command "nonsense"`,
		"cluster nonsense":                     `unknown command "nonsense"`,
		"completion nonsense":                  `unknown command "nonsense"`,
		"cluster create":                       "give the name of one cluster",
		"cluster list --kubeconfig=/none":      "Start the server first",
		"version -o yaml":                      "-o must be json or left out",
		"--log-level=loud version":             "--log-level must be debug, info, warn or error",
		"--log-format=xml version":             "--log-format must be text or json",
		"cluster list -o json --kubeconfig=/x": "reading the kubeconfig",
		"cluster create a -o yaml":             "-o must be json or left out",
	} {
		got := local.Run(t, strings.Fields(strings.ReplaceAll(command, "DIR", t.TempDir()))...)
		if got.Code != 1 || !strings.Contains(got.Stderr, want) || got.Stdout != "" {
			t.Errorf("zeroplane %s: exit code %d, standard error %q, standard output %q; want %q", command, got.Code, got.Stderr, got.Stdout, want)
		}
	}
}
