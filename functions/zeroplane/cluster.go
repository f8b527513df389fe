package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/zeroplane/startup/ahead"
)

const (
	clustersPath = "/zeroplane/v1/clusters"
	// manageTimeout bounds a request to the server.
	manageTimeout = 30 * time.Second
	// completeTimeout bounds one that a shell waits for while somebody types.
	completeTimeout = 3 * time.Second
)

var errOutput = errors.New("-o must be json or left out")

// manager calls the server that the admin's kubeconfig names.
type manager struct {
	kubeconfig, output string
	// out is the file that a cluster's kubeconfig is written to, and empty for standard output.
	out string
}

func clusterCommand() *cobra.Command {
	m := &manager{}
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Create, list and delete clusters of a running server",
		Long: `Manage the clusters of a server that runs (zeroplane serve). Each cluster has its own path, keys and
objects, and costs only its rows while nobody uses it. The default cluster's admin may manage them.`,
	}
	cmd.PersistentFlags().StringVar(&m.kubeconfig, "kubeconfig", "", "admin's kubeconfig of the default cluster (default DATA/kubeconfig)")
	cmd.PersistentFlags().StringVarP(&m.output, "output", "o", "", "output format: json")
	complete(cmd, "output", "json")
	create := &cobra.Command{
		Use: "create NAME", Short: "Create a cluster and print its kubeconfig", Args: oneName,
		ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  zeroplane cluster create dev --kubeconfig-out dev.kubeconfig
  zeroplane kubectl --kubeconfig dev.kubeconfig get namespaces`,
		RunE: func(c *cobra.Command, args []string) error { return m.create(c, args[0]) },
	}
	kubeconfig := &cobra.Command{
		Use: "kubeconfig NAME", Short: "Print the admin's kubeconfig of a cluster", Args: oneName,
		ValidArgsFunction: m.completeName,
		Example:           "  zeroplane cluster kubeconfig dev --kubeconfig-out dev.kubeconfig",
		RunE:              func(c *cobra.Command, args []string) error { return m.printKubeconfig(c, args[0]) },
	}
	for _, c := range []*cobra.Command{create, kubeconfig} {
		c.Flags().StringVar(&m.out, "kubeconfig-out", "", "file to write the kubeconfig to, for its owner alone (default standard output)")
	}
	cmd.AddCommand(
		create, kubeconfig,
		&cobra.Command{
			Use: "list", Short: "List the clusters", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(c *cobra.Command, _ []string) error { return m.list(c) },
		},
		&cobra.Command{
			Use: "delete NAME", Short: "Delete a cluster with everything in it", Args: oneName,
			ValidArgsFunction: m.completeName,
			RunE:              func(c *cobra.Command, args []string) error { return m.delete(c, args[0]) },
		},
	)
	return cmd
}

func oneName(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("give the name of one cluster; zeroplane cluster list shows them")
	}
	return nil
}

// completeName has shells complete the name of a cluster that the command takes.
func (m *manager) completeName(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	list, err := m.clusters(ctx)
	if err != nil {
		cobra.CompErrorln(err.Error())
		return nil, cobra.ShellCompDirectiveError
	}
	var names []cobra.Completion
	for _, s := range list.Items {
		kept := s.Name == cluster.Default && cmd.Name() == "delete"
		if strings.HasPrefix(s.Name, begun) && !kept {
			names = append(names, s.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (m *manager) call(ctx context.Context, method, path string, in, out any) error {
	if m.output != "" && m.output != "json" {
		return errOutput
	}
	file := m.file()
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w\nStart the server first (zeroplane serve), or name its kubeconfig with --kubeconfig", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	client.Timeout = manageTimeout
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, config.Host+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w\nIs the server of %s running (zeroplane serve)?", err, file)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		status := metav1.Status{Code: int32(resp.StatusCode)} //nolint:gosec // a status code fits
		if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || status.Message == "" {
			status.Message = resp.Status
		}
		return &apierrors.StatusError{ErrStatus: status}
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// file is the kubeconfig that is used.
func (m *manager) file() string {
	if m.kubeconfig != "" {
		return m.kubeconfig
	}
	return filepath.Join(ahead.DefaultData(), "kubeconfig")
}

func (m *manager) create(cmd *cobra.Command, name string) error {
	var s localhost.ClusterStatus
	if err := m.call(cmd.Context(), http.MethodPost, clustersPath, map[string]string{"name": name}, &s); err != nil {
		return err
	}
	if m.out != "" {
		if err := m.writeKubeconfig(cmd, s); err != nil {
			return fmt.Errorf("%w\nCluster %q is ready even so; zeroplane cluster kubeconfig %s prints its kubeconfig", err, name, name)
		}
		return nil
	}
	if m.output == "" {
		fmt.Fprintf(os.Stderr, "Cluster %q is ready. Its kubeconfig follows; zeroplane cluster kubeconfig %s prints it again.\n", name, name)
	}
	return m.print(cmd, s, s.Kubeconfig)
}

// writeKubeconfig writes it to the file that was asked for; what is printed is without it.
func (m *manager) writeKubeconfig(cmd *cobra.Command, s localhost.ClusterStatus) error {
	if err := localhost.WriteSecret(m.out, []byte(s.Kubeconfig)); err != nil {
		return err
	}
	s.Kubeconfig = ""
	return m.print(cmd, s, fmt.Sprintf("kubeconfig of cluster %q written to %s\n", s.Name, m.out))
}

func (m *manager) printKubeconfig(cmd *cobra.Command, name string) error {
	if err := cluster.ValidateName(name); err != nil {
		return err
	}
	var s localhost.ClusterStatus
	if err := m.call(cmd.Context(), http.MethodGet, clustersPath+"/"+name+"/kubeconfig", nil, &s); err != nil {
		return err
	}
	if m.out != "" {
		return m.writeKubeconfig(cmd, s)
	}
	return m.print(cmd, s, s.Kubeconfig)
}

func (m *manager) delete(cmd *cobra.Command, name string) error {
	if err := cluster.ValidateName(name); err != nil {
		return err
	}
	var s localhost.ClusterStatus
	if err := m.call(cmd.Context(), http.MethodDelete, clustersPath+"/"+name, nil, &s); err != nil {
		return err
	}
	return m.print(cmd, s, fmt.Sprintf("cluster %q deleted\n", name))
}

// clusterList is what the server answers.
type clusterList struct {
	Items []localhost.ClusterStatus `json:"items"`
}

func (m *manager) clusters(ctx context.Context) (list clusterList, err error) {
	err = m.call(ctx, http.MethodGet, clustersPath, nil, &list)
	return list, err
}

func (m *manager) list(cmd *cobra.Command) error {
	answer, err := m.clusters(cmd.Context())
	if err != nil {
		return err
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tAGE\tAWAKE\tPATH")
	for _, s := range answer.Items {
		path := s.Path
		if path == "" {
			path = "/"
		}
		fmt.Fprintf(w, "%s\t%s\t%t\t%s\n", s.Name, duration.HumanDuration(time.Since(s.Created)), s.Awake, path)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return m.print(cmd, answer, table.String())
}

func (m *manager) print(cmd *cobra.Command, v any, text string) error {
	switch m.output {
	case "json":
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "":
		_, err := fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	default:
		return errOutput
	}
}
