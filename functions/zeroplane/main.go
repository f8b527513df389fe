// Command zeroplane runs a Kubernetes control plane that scales to zero, on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for the time zones of CronJobs

	"github.com/spf13/cobra"

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
		if status := exitStatus(0); errors.As(err, &status) {
			stop()
			os.Exit(int(status))
		}
		fmt.Fprintln(os.Stderr, "Error:", err)
		stop()
		os.Exit(1)
	}
}

// exitStatus is an error of a command that has said all, and ends with a status of its own.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func root() *cobra.Command {
	var logs logging
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
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return logs.setUp(c) },
	}
	logs.flags(cmd)
	cmd.AddCommand(serveCommand(), hostCommand(), clusterCommand(), storeCommand(), eventsCommand(), placementCommand(), simulateCommand(), kubectlCommand(), versionCommand())
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
