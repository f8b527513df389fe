package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/zeroplane/zeroplane/adapters/tracing"
)

const (
	logLevelFlag, logFormatFlag = "log-level", "log-format"
	// logLevelEnv and logFormatEnv say the same where nobody writes a command line.
	logLevelEnv, logFormatEnv = "ZEROPLANE_LOG_LEVEL", "ZEROPLANE_LOG_FORMAT"
)

// logging is what is logged, and how.
type logging struct{ level, format string }

func (l *logging) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&l.level, logLevelFlag, "warn", "what is logged to standard error: debug, info (every decision), warn or error; $"+logLevelEnv)
	f.StringVar(&l.format, logFormatFlag, "text", "how it is logged: text or json; $"+logFormatEnv)
	complete(cmd, logLevelFlag, "debug", "info", "warn", "error")
	complete(cmd, logFormatFlag, "text", "json")
}

// setUp sends our logs to standard error; the Kubernetes libraries' only when debugging. Hosts collect them: there every
// decision is logged, for programs to read.
func (l *logging) setUp(cmd *cobra.Command) error {
	level, levelOf := os.Getenv(logLevelEnv), "$"+logLevelEnv
	format, formatOf := os.Getenv(logFormatEnv), "$"+logFormatEnv
	if cmd.HasParent() && cmd.Parent().Name() == hostWord {
		level, format = cmp.Or(level, "info"), cmp.Or(format, "json")
	}
	if cmd.Flags().Changed(logLevelFlag) || level == "" {
		level, levelOf = l.level, "--"+logLevelFlag
	}
	if cmd.Flags().Changed(logFormatFlag) || format == "" {
		format, formatOf = l.format, "--"+logFormatFlag
	}
	options := &slog.HandlerOptions{}
	var from slog.Level
	if err := from.UnmarshalText([]byte(level)); err != nil {
		return errors.New(levelOf + " must be debug, info, warn or error")
	}
	options.Level = from
	switch format {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, options)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, options)))
	default:
		return errors.New(formatOf + " must be text or json")
	}
	if from > slog.LevelDebug {
		return silenceLibraries()
	}
	return nil
}

// silenceLibraries keeps the Kubernetes libraries from logging: clients are told their errors.
func silenceLibraries() error {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// By itself it says errors on standard error even so.
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	return flags.Set("stderrthreshold", "FATAL")
}

// tracesHelp says how traces are sent.
const tracesHelp = `Traces are sent where $` + tracing.EndpointEnv + ` says (OpenTelemetry's variables): docs/tracing.md.`

// traced runs a server whose spans are sent to a collector, if the environment names one.
func traced(cmd *cobra.Command, run func(context.Context) error) error {
	stop, err := tracing.Export(cmd.Context(), version)
	if err != nil {
		return err
	}
	defer stop()
	return run(cmd.Context())
}
