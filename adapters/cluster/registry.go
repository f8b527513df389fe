package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// registryPartition holds a row for each cluster. No cluster's own partition is named so.
	registryPartition = "_clusters"
	registryFrom      = "c-"
	registryEnd       = "c."
	// Default is the cluster of the bare path.
	Default = "default"
)

var (
	// ErrNotFound is returned for a cluster that does not exist.
	ErrNotFound = errors.New("cluster not found")
	// ErrExists is returned by Create for a name that is taken.
	ErrExists = errors.New("cluster exists")
	// ErrName is returned for a name that no cluster can have.
	ErrName = errors.New("invalid cluster name")
)

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ValidateName returns an ErrName unless name is a DNS label, as Kubernetes' own names are.
func ValidateName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%w %q: a name has at most 63 lower case letters, digits and '-', and begins and ends with a letter or digit", ErrName, name)
	}
	return nil
}

// PathPrefix is where clients reach a cluster: the bare path for the default one.
func PathPrefix(name string) string {
	if name == Default {
		return ""
	}
	return "/clusters/" + name
}

// Info is what the registry tells of a cluster.
type Info struct {
	Name string `json:"name"`
	// ID tells a cluster from an earlier one of its name. It is part of its partitions' names.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Sealed keys.
	Sealed []byte `json:"sealed,omitempty"`
}

// Partition is the first part of the names of the cluster's partitions.
func (i Info) Partition() string { return i.Name + "." + i.ID }

// Registry is the list of clusters.
type Registry struct{ Store table.Store }

// Get returns a cluster, or ErrNotFound.
func (r Registry) Get(ctx context.Context, name string) (Info, error) {
	row, err := r.Store.Get(ctx, registryPartition, registryFrom+name)
	if errors.Is(err, table.ErrNotFound) {
		return Info{}, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err != nil {
		return Info{}, fmt.Errorf("reading cluster %q: %w", name, err)
	}
	return decodeInfo(row)
}

func decodeInfo(row table.Row) (Info, error) {
	var i Info
	if err := json.Unmarshal(row.Value, &i); err != nil {
		return i, fmt.Errorf("%w: row %q of the cluster registry: %w", table.ErrCorrupt, row.Key, err)
	}
	return i, nil
}

// List returns all clusters in the order of their names.
func (r Registry) List(ctx context.Context) ([]Info, error) {
	var out []Info
	var broken error
	err := table.All(ctx, r.Store, registryPartition, table.Query{From: registryFrom, To: registryEnd}, func(row table.Row) bool {
		var i Info
		if i, broken = decodeInfo(row); broken == nil {
			out = append(out, i)
		}
		return broken == nil
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	return out, nil
}

// insert registers a cluster, or fails with ErrExists.
func (r Registry) insert(ctx context.Context, i Info) error {
	value, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encoding cluster %q: %w", i.Name, err)
	}
	err = r.Store.Commit(ctx, registryPartition, []table.Op{{Kind: table.Insert, Key: registryFrom + i.Name, Value: value}})
	if errors.Is(err, table.ErrExists) {
		return fmt.Errorf("%w: %q", ErrExists, i.Name)
	}
	if err != nil {
		return fmt.Errorf("registering cluster %q: %w", i.Name, err)
	}
	return nil
}

// remove takes a cluster from the registry.
func (r Registry) remove(ctx context.Context, name string) error {
	err := r.Store.Commit(ctx, registryPartition, []table.Op{{Kind: table.Delete, Key: registryFrom + name, ETag: table.Any}})
	if errors.Is(err, table.ErrNotFound) {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err != nil {
		return fmt.Errorf("removing cluster %q: %w", name, err)
	}
	return nil
}
