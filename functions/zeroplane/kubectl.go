package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // client authentication plugins, as kubectl has them
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// kubectlCommand is for the help only: kubectl takes its arguments as they are.
func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl",
		Short: "Run kubectl, which is built in",
		Long: `Run kubectl itself, so that a fresh machine needs nothing else. Unless --kubeconfig or $KUBECONFIG
says otherwise, it talks to the cluster of the default data directory.`,
		DisableFlagParsing: true,
		Run:                func(*cobra.Command, []string) { os.Exit(runKubectl(os.Args[1:])) },
	}
}

// runKubectl runs kubectl with args, the first of which is its name.
func runKubectl(args []string) int {
	if own := filepath.Join(defaultData(), "kubeconfig"); os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		if _, err := os.Stat(own); err == nil {
			_ = os.Setenv(clientcmd.RecommendedConfigPathEnvVar, own)
		}
	}
	// kubectl reads os.Args where it looks for plugins and completes commands.
	os.Args = append([]string{"kubectl"}, args[1:]...)
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	command := cmd.NewDefaultKubectlCommand()
	if err := cli.RunNoErrOutput(command); err != nil {
		util.CheckErr(err)
		return 1
	}
	return 0
}
