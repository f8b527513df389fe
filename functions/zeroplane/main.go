// Command zeroplane runs a Kubernetes control plane that scales to zero, on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/zeroplane/zeroplane/functions/zeroplane/startup"
	_ "github.com/zeroplane/zeroplane/functions/zeroplane/translations" // before kubectl
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if words, ok := kubectlWords(os.Args[1:]); ok {
		startup.Done()
		os.Exit(runKubectl(words))
	}
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		stop()
		os.Exit(1)
	}
}

func root() *cobra.Command {
	var level string
	cmd := &cobra.Command{
		Use:   "zeroplane",
		Short: "A Kubernetes control plane that scales to zero",
		Long: `zeroplane is a Kubernetes control plane that scales to zero: the real Kubernetes API over a
table store, and stateless functions that schedule and reconcile when something changes.

Start a cluster on this machine and use it:

  zeroplane serve --simulate-nodes 3
  zeroplane kubectl get nodes                     (in another shell)
  zeroplane kubectl create deployment web --image=nginx --replicas=3`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return setUpLogs(level) },
	}
	cmd.PersistentFlags().StringVar(&level, "log-level", "warn", "what is logged to standard error: debug, info, warn or error")
	complete(cmd, "log-level", "debug", "info", "warn", "error")
	cmd.AddCommand(serveCommand(), hostCommand(), clusterCommand(), storeCommand(), eventsCommand(), kubectlCommand(), versionCommand())
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		if c.HasSubCommands() {
			refuseOthers(c)
		}
	}
	return cmd
}

// refuseOthers makes a word that is no subcommand an error. By itself cobra prints the help then, and succeeds.
func refuseOthers(cmd *cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// complete has shells complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...cobra.Completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag, or it is completed already
	}
}

// setUpLogs sends our logs to standard error; the Kubernetes libraries' only when debugging.
func setUpLogs(level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return errors.New("--log-level must be debug, info, warn or error")
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})))
	if l > slog.LevelDebug {
		klog.LogToStderr(false)
		klog.SetOutput(io.Discard)
		// By itself it says errors on standard error even so; clients are told theirs.
		flags := flag.NewFlagSet("klog", flag.ContinueOnError)
		klog.InitFlags(flags)
		if err := flags.Set("stderrthreshold", "FATAL"); err != nil {
			return err
		}
	}
	return nil
}
