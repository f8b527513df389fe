package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/webhook"
)

// eventsPath is that of a cluster's webhook, lettersPath that of its dead letters.
const (
	eventsPath  = "/events"
	lettersPath = eventsPath + webhook.LettersPath
)

// reasonWidth is how much of a reason a narrow list has, in characters.
const reasonWidth = 60

// postOffice shows and replays dead letters.
type postOffice struct {
	manager
	all bool
}

func eventsCommand() *cobra.Command {
	p := &postOffice{}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow a change through the cluster; show and replay the events that it refused",
		Long: `A cluster takes CloudEvents at /events. One that is malformed is refused, and kept among the cluster's dead
letters, if its sender may send something: at most 200 of them, and 8 MiB, of which the oldest of the
busiest sender go first. What is kept can be looked at, and be posted again when the cluster (a newer
version, say) can make something of it.

A replay is judged as if you had sent the event: you need "post" on its type. It leaves the dead letters when
it is taken, and stays when it is refused again.

RBAC decides who may do this, by the paths /events/dead-letters and below, with the verbs get, delete and, for
a replay, post. The admin of a cluster may. For another cluster than the default one name its kubeconfig.`,
		Example: `  zeroplane events list
  zeroplane events show 5f2b3c4d5e6f7081
  zeroplane events replay --all
  zeroplane events list --kubeconfig dev.kubeconfig -o wide`,
	}
	cmd.PersistentFlags().StringVar(&p.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default DATA/kubeconfig)")
	cmd.PersistentFlags().StringVarP(&p.output, "output", "o", "", "output format: json or wide")
	complete(cmd, "output", "json", "wide")
	replay := &cobra.Command{
		Use: "replay ID... | --all", Short: "Post kept events again", ValidArgsFunction: p.completeID,
		RunE: func(c *cobra.Command, ids []string) error { return p.eachLetter(c, ids, "replay", p.replay) },
	}
	drop := &cobra.Command{
		Use: "drop ID... | --all", Short: "Remove kept events for good", ValidArgsFunction: p.completeID,
		RunE: func(c *cobra.Command, ids []string) error { return p.eachLetter(c, ids, "drop", p.drop) },
	}
	for _, c := range []*cobra.Command{replay, drop} {
		c.Flags().BoolVar(&p.all, "all", false, "all that are kept")
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the kept events, the newest first", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(c *cobra.Command, _ []string) error { return p.list(c) },
		},
		&cobra.Command{
			Use: "show ID", Short: "Show a kept event: why it was refused, and what was sent", Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeID,
			RunE: func(c *cobra.Command, args []string) error { return p.show(c, args[0]) },
		},
		replay, drop, traceCommand(p),
	)
	return cmd
}

// format returns what is to be printed: json, wide, or text if empty.
func (p *postOffice) format() (string, error) {
	switch p.output {
	case "", "json", "wide":
		return p.output, nil
	}
	return "", errors.New("-o must be json, wide or left out")
}

// ask calls the server and decodes its answer. The manager takes no format but JSON.
func (p *postOffice) ask(ctx context.Context, method, path string, out any) error {
	m := p.manager
	m.output = ""
	return m.call(ctx, method, lettersPath+path, nil, out)
}

func (p *postOffice) letters(ctx context.Context) ([]deadletter.Letter, error) {
	var list webhook.LetterList
	err := p.ask(ctx, http.MethodGet, "", &list)
	return list.Items, err
}

func (p *postOffice) list(cmd *cobra.Command) error {
	format, err := p.format()
	if err != nil {
		return err
	}
	all, err := p.letters(cmd.Context())
	if err != nil {
		return err
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	header := "ID\tAGE\tTIMES\tTYPE\tSENDER\tREASON"
	if format == "wide" {
		header = "ID\tAGE\tTIMES\tTYPE\tSENDER\tVIA\tBYTES\tEVENT\tSOURCE\tFIELD\tREASON"
	}
	fmt.Fprintln(w, header)
	for _, l := range all {
		age := duration.HumanDuration(time.Since(l.Last))
		if format == "wide" {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.ID, age, l.Times, orNone(l.Type), orNone(l.Sender), l.Via, l.Bytes,
				orNone(l.EventID), orNone(l.Source), orNone(l.Field), oneLine(l.Reason))
			continue
		}
		reason := oneLine(strings.TrimPrefix(l.Field+": "+l.Reason, ": "))
		if runes := []rune(reason); len(runes) > reasonWidth {
			reason = string(runes[:reasonWidth-1]) + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", l.ID, age, l.Times, orNone(l.Type), orNone(l.Sender), reason)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	text := table.String()
	if len(all) == 0 {
		text = "No dead letters.\n"
	}
	return p.printLetters(cmd, webhook.LetterList{Items: all}, text)
}

// printLetters prints a value as JSON if that was asked for, or its text.
func (p *postOffice) printLetters(cmd *cobra.Command, v any, text string) error {
	m := p.manager
	if m.output == "wide" {
		m.output = ""
	}
	return m.print(cmd, v, text)
}

// orNone stands for what is not known, as kubectl has it, and keeps a text to one line.
func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return oneLine(s)
}

// oneLine makes a text that others chose one that a terminal only prints.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func (p *postOffice) show(cmd *cobra.Command, id string) error {
	if _, err := p.format(); err != nil {
		return err
	}
	var l webhook.LetterContent
	if err := p.ask(cmd.Context(), http.MethodGet, "/"+id, &l); err != nil {
		return err
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"Refused", refusals(l.Letter)},
		{"Reason", l.Reason}, {"Field", l.Field}, {"Sender", l.Sender}, {"Via", l.Via}, {"Type", l.Type}, {"Source", l.Source}, {"Event", l.EventID},
	} {
		fmt.Fprintf(w, "%s:\t%s\n", line[0], orNone(line[1]))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		fmt.Fprintf(&text, "\n%s: %s", name, oneLine(l.Header[name]))
	}
	switch {
	case l.Base64 != nil:
		fmt.Fprintf(&text, "\n\n%d bytes that are no text; -o json has them\n", l.Bytes)
	default:
		fmt.Fprintf(&text, "\n\n%s\n", printable(l.Body))
	}
	if l.Truncated {
		fmt.Fprintf(&text, "(of %d bytes only the beginning is kept, so it cannot be replayed)\n", l.Bytes)
	}
	return p.printLetters(cmd, l, text.String())
}

// refusals says when an event was refused, and how often.
func refusals(l deadletter.Letter) string {
	if l.Times == 1 {
		return l.Last.Format(time.RFC3339)
	}
	return fmt.Sprintf("%d times, first %s, last %s", l.Times, l.First.Format(time.RFC3339), l.Last.Format(time.RFC3339))
}

// printable is oneLine for a text of several lines.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = oneLine(line)
	}
	return strings.Join(lines, "\n")
}

// eachLetter does something with the letters that are named, or all. One that fails does not keep the others from it.
func (p *postOffice) eachLetter(cmd *cobra.Command, ids []string, verb string, do func(*cobra.Command, string) error) error {
	if _, err := p.format(); err != nil {
		return err
	}
	if p.all == (len(ids) > 0) {
		return errors.New("give the IDs of events, or --all; zeroplane events list shows them")
	}
	if p.all {
		all, err := p.letters(cmd.Context())
		if err != nil {
			return err
		}
		for _, l := range all {
			ids = append(ids, l.ID)
		}
	}
	var errs []error
	for _, id := range ids {
		if err := do(cmd, id); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d events were not %s:\n%w", len(errs), len(ids), map[string]string{"replay": "taken", "drop": "dropped"}[verb], errors.Join(errs...))
	}
	if len(ids) == 0 {
		return p.printLetters(cmd, webhook.LetterOutcome{}, "No dead letters.\n")
	}
	return nil
}

func (p *postOffice) replay(cmd *cobra.Command, id string) error {
	var out webhook.LetterOutcome
	if err := p.ask(cmd.Context(), http.MethodPost, "/"+id+"/replay", &out); err != nil {
		return err
	}
	return p.printLetters(cmd, out, "event "+id+" taken\n")
}

func (p *postOffice) drop(cmd *cobra.Command, id string) error {
	var out webhook.LetterOutcome
	if err := p.ask(cmd.Context(), http.MethodDelete, "/"+id, &out); err != nil {
		return err
	}
	return p.printLetters(cmd, out, "event "+id+" dropped\n")
}

// completeID has shells complete the ID of a kept event.
func (p *postOffice) completeID(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	all, err := p.letters(ctx)
	if err != nil {
		cobra.CompErrorln(err.Error())
		return nil, cobra.ShellCompDirectiveError
	}
	var ids []cobra.Completion
	for _, l := range all {
		if strings.HasPrefix(l.ID, begun) {
			ids = append(ids, cobra.CompletionWithDesc(l.ID, oneLine(l.Type+" "+l.Reason)))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
