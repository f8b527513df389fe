package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/placement"
)

const (
	fromCluster = "cluster"
	fromNothing = "nothing"
)

// errNoFit is what a simulation ends with that found no place for a pod.
const errNoFit = exitStatus(2)

// simulator asks what would come of a change.
type simulator struct {
	manager
	files, remove                               []string
	add                                         int
	template, from, namespace, svg, profileFile string
}

func simulateCommand() *cobra.Command {
	s := &simulator{}
	cmd := &cobra.Command{
		Use:   "simulate [-f pods.yaml] [--add-nodes N] [--remove-node NAME]",
		Short: "Show where pods would go, if pods or nodes came or nodes went",
		Long: `Answers, with the decisions of the scheduler itself, where pods would go if those of some files came, if nodes were added or
if nodes were gone; for what finds no place, what would make it fit; and how full each node would be. Nothing is written
to the cluster.

Files have Pods, and Deployments, ReplicaSets, StatefulSets, ReplicationControllers and Jobs, whose pods come with as many
replicas as they say, besides what the cluster has already; a pod whose name is taken takes the place of the other.
PersistentVolumeClaims, ResourceClaims, ResourceClaimTemplates and PriorityClasses count; other objects are named and left out. Pods get their defaults, their
priority and the default StorageClass as from the API, but webhooks and LimitRanges are not asked.

Added nodes are like the Node of --node-template (kubectl get node NAME -o yaml will do), as it would be new: not cordoned,
without taints of its state, without images. They are called NAME-0, NAME-1 and so on. Without a template they have
` + defaultTemplateText + `. Each gets a pod of
every DaemonSet that has pods in the cluster and suits it.

Pods of removed nodes look for a place again if a controller would make them again: those of DaemonSets and mirror pods go
with their node, and pods without a controller are told to be lost. Pods that wait in the cluster are placed, too. Pods of
lower priority are preempted, and look for a place themselves if a controller would make them again.

--from nothing needs no cluster: there are only the nodes that are added.

RBAC decides who may do this, by the path ` + localhost.WhatIfPath + `, with the verb post. The admin of a cluster may.

The exit status is 0 if every pod that comes or loses its node gets one, 2 if one fits nowhere or waits for claims that are not
there, and 1 if there is no answer. Pods that wait in the cluster already do not count, nor do those that the scheduler
leaves alone. The same is told by "fits" of -o json.`,
		Example: `  zeroplane simulate -f deployment.yaml
  zeroplane simulate -f deployment.yaml --add-nodes 3 --node-template node.yaml --svg picture.svg
  zeroplane simulate --remove-node node-1 --remove-node node-2
  zeroplane kubectl create deployment web --image=nginx --replicas=9 --dry-run=client -o yaml | zeroplane simulate -f - --from nothing --add-nodes 3`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return s.run(c) },
	}
	f := cmd.Flags()
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default DATA/kubeconfig)")
	f.StringArrayVarP(&s.files, "filename", "f", nil, "file with the pods that come, in YAML or JSON; - is standard input; may be repeated")
	f.IntVar(&s.add, "add-nodes", 0, "number of nodes that come (1 if there is a --node-template)")
	f.StringVar(&s.template, "node-template", "", "file with a Node that those are like")
	f.StringArrayVar(&s.remove, "remove-node", nil, "name of a node that goes; may be repeated")
	f.StringVar(&s.from, "from", fromCluster, "what there is before: cluster, or nothing")
	f.StringVar(&s.profileFile, "scheduler-config", "", "with --from nothing, a file with a KubeSchedulerConfiguration, as of zeroplane serve")
	f.StringVarP(&s.namespace, "namespace", "n", "default", "namespace of objects that name none")
	f.StringVarP(&s.output, "output", "o", "table", "output format: table, json or svg")
	f.StringVar(&s.svg, "svg", "", "file to write a picture of how full the nodes are to")
	complete(cmd, "output", "table", "json", "svg")
	complete(cmd, "from", fromCluster, fromNothing)
	return cmd
}

func (s *simulator) run(cmd *cobra.Command) error {
	format := s.output
	s.output = "" // what the manager knows of
	if format != "table" && format != "json" && format != "svg" {
		return fmt.Errorf("-o must be table, json or svg, and is %q", format)
	}
	files := &manifests{stdin: cmd.InOrStdin(), namespace: s.namespace}
	if err := s.read(cmd, files); err != nil {
		return err
	}
	answer, err := s.ask(cmd, files.question)
	if err != nil {
		return err
	}
	for _, what := range files.ignored {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s, which has no pods that are placed\n", what)
	}
	if s.svg != "" {
		if err := os.WriteFile(s.svg, []byte(simulationSVG(answer)), 0o644); err != nil { //nolint:gosec // a picture is for everybody
			return err
		}
	}
	var text string
	switch format {
	case "json":
		s.output = "json"
	case "svg":
		text = simulationSVG(answer)
	default:
		text = simulationText(answer)
	}
	if err := s.print(cmd, answer, text); err != nil {
		return err
	}
	if !answer.Fits {
		return errNoFit
	}
	return nil
}

// read makes the question of files and flags.
func (s *simulator) read(cmd *cobra.Command, files *manifests) error {
	if s.template != "" && !cmd.Flags().Changed("add-nodes") {
		s.add = 1
	}
	if err := errors.Join(s.checkFlags(), s.checkQuestion()); err != nil {
		return err
	}
	for _, file := range s.files {
		if err := files.read(file); err != nil {
			return err
		}
	}
	if s.add > 0 {
		template, err := nodeTemplate(cmd.InOrStdin(), s.template)
		if err != nil {
			return err
		}
		files.question.Add = []placement.Nodes{{Template: template, Count: s.add}}
	}
	files.question.Remove = s.remove
	return nil
}

// checkFlags looks at each flag.
func (s *simulator) checkFlags() error {
	dashes := 0
	for _, file := range append([]string{s.template}, s.files...) {
		if file == "-" {
			dashes++
		}
	}
	switch {
	case s.from != fromCluster && s.from != fromNothing:
		return fmt.Errorf("--from must be %s or %s, and is %q", fromCluster, fromNothing, s.from)
	case dashes > 1:
		return errors.New("standard input (-) can be read once only")
	case s.add < 0:
		return errors.New("--add-nodes must not be negative")
	}
	return nil
}

// checkQuestion looks at what flags ask for together.
func (s *simulator) checkQuestion() error {
	switch {
	case len(s.files) == 0 && s.add == 0 && len(s.remove) == 0:
		return errors.New("nothing would change: give pods with -f, nodes with --add-nodes, or --remove-node")
	case s.from == fromNothing && s.add == 0:
		return errors.New("--from nothing has no nodes: give some with --add-nodes")
	case s.from == fromNothing && len(s.remove) > 0:
		return errors.New("--from nothing has no nodes that could be removed")
	case s.from != fromNothing && s.profileFile != "":
		return errors.New("--scheduler-config is for --from nothing: a cluster has its own")
	}
	return nil
}

func (s *simulator) ask(cmd *cobra.Command, q placement.Question) (placement.Answer, error) {
	if s.from == fromNothing {
		profiles, err := schedulerDocument.file("--scheduler-config", s.profileFile)
		if err != nil {
			return placement.Answer{}, err
		}
		return placement.AskNothing(q, time.Now(), profiles...)
	}
	var answer placement.Answer
	err := s.call(cmd.Context(), http.MethodPost, localhost.WhatIfPath, q, &answer)
	return answer, err
}

// naturally orders names with numbers in them as people do: node-2 before node-10.
func naturally(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			if order := cmp.Or(cmp.Compare(number(a[:x]), number(b[:y])), cmp.Compare(x, y)); order != 0 {
				return order
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits a text begins with, nine at most.
func digits(s string) int {
	const most = 9
	n := 0
	for n < len(s) && n < most && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func number(s string) (n int) {
	for _, d := range s {
		n = n*10 + int(d-'0')
	}
	return n
}
