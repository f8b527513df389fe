package infra

import (
	"archive/zip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scripts returns the shell scripts of infra, by their names.
func scripts(t *testing.T) []string {
	t.Helper()
	names := []string{"infra/aws/bootstrap"}
	err := filepath.WalkDir(root+"/infra", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".sh" {
			names = append(names, strings.TrimPrefix(name, root+"/"))
		}
		return err
	})
	if err != nil || len(names) < 8 {
		t.Fatalf("found %q: %v", names, err)
	}
	return names
}

func TestScriptsAreWellFormed(t *testing.T) {
	shellcheck, missing := exec.LookPath("shellcheck")
	for _, name := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			info, err := os.Stat(root + "/" + name)
			if err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("it cannot be executed: %v", err)
			}
			command := exec.Command("bash", "-n", root+"/"+name)
			if missing == nil {
				command = exec.Command(shellcheck, root+"/"+name)
			}
			if out, err := command.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", command.Args, err, out)
			}
		})
	}
}

// run runs a script with tools of the test's own in place of the clouds', and returns its output and whether it ended
// well. answers are cases of a shell's case statement over the tool's name and arguments; a call that none matches
// ends well and says nothing. calls are what the tools were called with.
func run(t *testing.T, script, answers string, env []string, args ...string) (out string, calls []string, ok bool) {
	t.Helper()
	tools := t.TempDir()
	log := filepath.Join(tools, "calls")
	tool := "#!/bin/bash\ncall=\"$(basename \"$0\") $*\"\necho \"$call\" >>" + log + "\n" +
		// A file of secrets is gone when the script ends.
		"for arg in \"$@\"; do case $arg in @/*|file:///*) file=${arg#@}; file=${file#file://}; stat -c %a \"$file\" >>" + log + "; cat \"$file\" >>" + log + ";; esac; done\n" +
		"case $call in\n" + answers + "\nesac\n"
	for _, name := range []string{"az", "aws", "sam", "make", "go", "curl", "terraform"} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("bash", append([]string{root + "/" + script}, args...)...)
	command.Env = append(env, "PATH="+tools+":/usr/bin:/bin", "HOME="+tools)
	data, err := command.CombinedOutput()
	recorded, _ := os.ReadFile(log)
	return string(data), strings.Split(strings.TrimSpace(string(recorded)), "\n"), err == nil
}

func TestScriptsSayHowTheyAreUsed(t *testing.T) {
	for _, name := range scripts(t) {
		if name == "infra/aws/bootstrap" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out, calls, ok := run(t, name, "", nil, "--help")
			if !ok || !strings.HasPrefix(out, "usage: "+name) {
				t.Errorf("--help printed %q", out)
			}
			if !slices.Equal(calls, []string{""}) {
				t.Errorf("--help called %q", calls)
			}
		})
	}
}

// azureAnswers are those of a subscription in which everything was deployed before.
const azureAnswers = `
"az account show"*) echo subscription-id ;;
"az provider show"*) echo Registered ;;
"az group exists"*) echo true ;;
"az group show"*) echo northeurope ;;
*"outputs.appName"*) echo zeroplane-abc ;;
*"outputs.address"*) echo zeroplane-abc.azurewebsites.net ;;
*"outputs.storageAccountName"*) echo zpabc ;;
*"outputs.topicName"*) echo zeroplane-abc ;;
*"outputs.vaultName"*) echo zeroplane-abc ;;
"az resource list"*vaults*) echo /vault ;;
"az resource list"*storageAccounts*) echo zpabc ;;
"az resource list"*sites*) echo zeroplane-abc ;;
`

// has tells whether some call matches.
func has(calls []string, pattern string) bool {
	return slices.ContainsFunc(calls, regexp.MustCompile(pattern).MatchString)
}

func TestAzureDeploy(t *testing.T) {
	const script = "infra/azure/deploy.sh"
	cases := map[string]struct {
		answers  string
		env      []string
		args     []string
		fails    bool
		says     string
		want     []string
		wantNone []string
	}{
		"makes the seal key and the group the first time": {
			answers: `"az group exists"*) echo false ;;` + "\n" + `"az resource list"*) ;;` + "\n" + `"az resource show"*) exit 3 ;;`,
			want: []string{"^az group create --name zeroplane --location northeurope", `"sealKey":\{"value":"[A-Za-z0-9+/]{43}="\}`, "^600$",
				"^az deployment group create .*main.bicep", "^az functionapp deployment source config-zip .*--src dist/zeroplane-azure.zip"},
			wantNone: []string{"subscription.bicep", "az deployment.*sealKey"},
			says:     "zeroplane serves https://zeroplane-abc.azurewebsites.net",
		},
		"keeps the seal key later": {
			answers:  `"az resource show"*budgets*) echo 2026-11-01 ;;`,
			want:     []string{`^\{"parameters":\{\}\}$`, "budgetStart=2026-11-01"},
			wantNone: []string{"sealKey", "az group create"},
		},
		"makes no other key where clusters may be": {
			answers: `"az resource show"*secrets*) exit 3 ;;`, fails: true, says: "the seal key that its clusters need cannot be read",
			wantNone: []string{"az deployment group create"},
		},
		"subscribes the webhook with a token": {
			env: []string{"ZEROPLANE_WEBHOOK_TOKEN=abc.def"}, want: []string{"pushBells=true", "subscription.bicep", `"webhookToken":\{"value":"abc.def"\}`},
			wantNone: []string{"az .*abc.def"},
		},
		"passes parameters on": {
			args: []string{"--group", "g", "--parameters", "instanceMemoryMB=2048", "budgetAmount=10"}, want: []string{"--resource-group g .*instanceMemoryMB=2048 budgetAmount=10"},
		},
		"says how to sign in": {
			answers: `"az account show"*) exit 1 ;;`, fails: true, says: "type: az login", wantNone: []string{"make", "az deployment"},
		},
		"says what to look at when nothing answers": {
			answers: `curl*) exit 22 ;;`, fails: true, says: "run this script again",
		},
		"refuses what it does not know": {args: []string{"--grup", "g"}, fails: true, says: "unknown argument --grup", wantNone: []string{"az"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, calls, ok := run(t, script, c.answers+azureAnswers, c.env, c.args...)
			if ok == c.fails || !strings.Contains(out, c.says) {
				t.Fatalf("ended well: %v; printed:\n%s", ok, out)
			}
			checkCalls(t, calls, c.want, c.wantNone)
		})
	}
}

func TestAWSDeploy(t *testing.T) {
	const answers = `
"aws sts"*) echo 123 ;;
"aws cloudformation describe-stacks"*) echo https://abc.lambda-url.eu-west-1.on.aws/ ;;
`
	cases := map[string]struct {
		answers  string
		env      []string
		fails    bool
		says     string
		want     []string
		wantNone []string
	}{
		"makes the secret the first time": {
			answers: `"aws secretsmanager describe-secret"*) exit 254 ;;`, env: []string{"AZURE_STORAGE_CONNECTION_STRING=AccountName=a;AccountKey=b=="},
			want:     []string{`^\{"connectionString":"AccountName=a;AccountKey=b==","sealKey":"[A-Za-z0-9+/]{43}="\}$`, "^600$", "Address=abc.lambda-url.eu-west-1.on.aws$"},
			wantNone: []string{"^aws .*AccountKey"},
		},
		"asks for the store": {
			answers: `"aws secretsmanager describe-secret"*) exit 254 ;;`, fails: true, says: "AZURE_STORAGE_CONNECTION_STRING is not set", wantNone: []string{"^sam"},
		},
		"keeps the secret later": {wantNone: []string{"create-secret"}, want: []string{"^sam deploy .*SecretName=zeroplane"}, says: "zeroplane serves https://abc"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, calls, ok := run(t, "infra/aws/deploy.sh", c.answers+answers, c.env)
			if ok == c.fails || !strings.Contains(out, c.says) {
				t.Fatalf("ended well: %v; printed:\n%s", ok, out)
			}
			checkCalls(t, calls, c.want, c.wantNone)
		})
	}
}

func TestAzureDestroyRemovesNoForeignGroup(t *testing.T) {
	out, calls, ok := run(t, "infra/azure/destroy.sh", `"az resource list"*sites*) ;;`+azureAnswers, nil, "--yes")
	if ok || !strings.Contains(out, "no zeroplane is in resource group zeroplane") || has(calls, "az group delete") {
		t.Errorf("ended well: %v, called %q, printed %q", ok, calls, out)
	}
	if _, calls, ok := run(t, "infra/azure/destroy.sh", azureAnswers, nil, "--yes"); !ok || !has(calls, "az group delete --name zeroplane") {
		t.Errorf("a zeroplane's group stays: %q", calls)
	}
}

// pack packs a small file in the binary's place, with everything else as `make` would.
func pack(t *testing.T, packer, target string) map[string]os.FileMode {
	t.Helper()
	plan, err := exec.Command("make", "--no-print-directory", "-C", root, "-n", target).Output()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^go run ./infra/pack -o \S+ (.*)$`).FindStringSubmatch(string(plan))
	if line == nil {
		t.Fatalf("make %s packs nothing:\n%s", target, plan)
	}
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.zip")
	args := strings.Fields(strings.ReplaceAll(line[1], "dist/linux-amd64/zeroplane", binary))
	var archives [2]string
	for i := range archives {
		command := exec.Command(packer, append([]string{"-o", out}, args...)...)
		command.Dir = root
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = string(data)
	}
	if archives[0] != archives[1] {
		t.Error("the same files make another archive")
	}
	archive, err := zip.OpenReader(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }()
	modes := map[string]os.FileMode{}
	for _, f := range archive.File {
		modes[f.Name] = f.Mode()
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || len(data) == 0 {
			t.Errorf("%s holds %d bytes: %v", f.Name, len(data), err)
		}
	}
	return modes
}

func TestPackagesHoldWhatTheirHostsRead(t *testing.T) {
	cases := map[string]map[string]os.FileMode{
		"package-azure": {
			"zeroplane": 0o755, "host.json": 0o644, "api/function.json": 0o644, "bells/function.json": 0o644,
			"eventgrid/function.json": 0o644, "timer/function.json": 0o644, "webhook/function.json": 0o644,
		},
		"package-aws": {"zeroplane": 0o755, "bootstrap": 0o755},
	}
	packer := filepath.Join(t.TempDir(), "pack")
	build := exec.Command("go", "build", "-o", packer, "./infra/pack")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for target, want := range cases {
		t.Run(target, func(t *testing.T) {
			if d := cmp.Diff(want, pack(t, packer, target)); d != "" {
				t.Errorf("archive (-want +got):\n%s", d)
			}
		})
	}
}

// checkCalls looks for calls that match each pattern of want, and for none that matches one of wantNone.
func checkCalls(t *testing.T, calls, want, wantNone []string) {
	t.Helper()
	for _, pattern := range want {
		if !has(calls, pattern) {
			t.Errorf("no call matches %q in\n%s", pattern, strings.Join(calls, "\n"))
		}
	}
	for _, pattern := range wantNone {
		if has(calls, pattern) {
			t.Errorf("a call matches %q in\n%s", pattern, strings.Join(calls, "\n"))
		}
	}
}
