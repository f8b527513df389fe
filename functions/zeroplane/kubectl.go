package main

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // client authentication plugins, as kubectl has them
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	"github.com/zeroplane/zeroplane/functions/zeroplane/startup/ahead"
)

// kubectlCommand is for the help only: kubectl takes its arguments as they are.
func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl",
		Short: "Run kubectl, which is built in",
		Long: `Run kubectl itself, so that a fresh machine needs nothing else. Unless --kubeconfig or $KUBECONFIG
says otherwise, it talks to the cluster of the default data directory.`,
		DisableFlagParsing: true,
		Run:                func(_ *cobra.Command, words []string) { os.Exit(runKubectl(words)) },
	}
}

// kubectlWords returns what kubectl is called with, if it is what args call. When a shell asks how a line goes
// on that begins so, kubectl is asked: it knows its commands and flags, and what the cluster has.
func kubectlWords(args []string) (words []string, ok bool) {
	var ask []string
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		ask, args = args[:1], args[1:]
	}
	command, words, err := root().Traverse(args)
	if err != nil || command.Name() != "kubectl" || len(ask) > 0 && len(words) == 0 { // the name itself is ours to complete
		return nil, false
	}
	return slices.Concat(ask, words), true
}

// runKubectl runs kubectl with these words after its name.
func runKubectl(words []string) int {
	if own := filepath.Join(ahead.DefaultData(), "kubeconfig"); os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		if _, err := os.Stat(own); err == nil {
			_ = os.Setenv(clientcmd.RecommendedConfigPathEnvVar, own)
		}
	}
	// kubectl reads os.Args where it looks for plugins and completes commands.
	os.Args = append([]string{"kubectl"}, words...)
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	command := cmd.NewDefaultKubectlCommand()
	if err := cli.RunNoErrOutput(command); err != nil {
		util.CheckErr(err)
		return 1
	}
	return 0
}
