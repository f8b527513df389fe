package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	componentversion "k8s.io/component-base/version"
)

// version of zeroplane; the Makefile sets it.
var version = "dev"

func versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of zeroplane and of the Kubernetes that it is",
		Args:  cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"zeroplane": version, "kubernetes": componentversion.Get().GitVersion, "go": runtime.Version()}
			switch output {
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			case "":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "zeroplane %s, Kubernetes %s, %s\n", v["zeroplane"], v["kubernetes"], v["go"])
				return err
			default:
				return errOutput
			}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "output format: json")
	complete(cmd, "output", "json")
	return cmd
}
