// Command tally reads `go test -json` from its standard input, shows how each package ended with the
// whole output of what failed, and adds the counts to a file for the line at the end of tests/run.sh.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// run writes "passed failed skipped" to the file that -counts names.
func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("tally", flag.ContinueOnError)
	path := flags.String("counts", "", "`file` to write the counts to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" {
		return errors.New("-counts is missing")
	}
	total, err := read(in, out)
	if err != nil {
		return fmt.Errorf("reading events: %w", err)
	}
	text := fmt.Sprintln(total.passed, total.failed, total.skipped)
	if err := os.WriteFile(*path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the counts: %w", err)
	}
	return nil
}

// read takes events to the end of in. Lines that are not events are shown as they are.
func read(in io.Reader, out io.Writer) (counts, error) {
	t := newTally(out)
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(text, &e) == nil {
			t.add(e)
		} else if len(text) > 0 {
			fmt.Fprintf(out, "%s", text)
		}
		switch {
		case errors.Is(err, io.EOF):
			t.finish()
			return t.total, nil
		case err != nil:
			return counts{}, err
		}
	}
}
