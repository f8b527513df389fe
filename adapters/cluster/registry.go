package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// registryPartition holds a row for each cluster. No cluster's own partition is named so.
	registryPartition = "_clusters"
	registryFrom      = "c-"
	registryEnd       = "c."
	// leftFrom begins the rows that name the partitions of clusters that are being made or deleted: what
	// a crash leaves of them is removed at the next start.
	leftFrom = "x-"
	leftEnd  = "x."
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

	etag string
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
	i.etag = row.ETag
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

func leftKey(i Info) string { return leftFrom + i.Partition() }

// announce notes that a cluster's partitions are about to be written.
func (r Registry) announce(ctx context.Context, i Info) error {
	value, err := left{Partition: i.Partition(), At: time.Now()}.encode()
	if err != nil {
		return err
	}
	// The id was drawn, so the row is nobody else's.
	op := table.Op{Kind: table.Put, Key: leftKey(i), Value: value}
	if err := table.Repeat(ctx, r.Store, registryPartition, []table.Op{op}); err != nil {
		return fmt.Errorf("announcing cluster %q: %w", i.Name, err)
	}
	return nil
}

// insert registers a cluster that was announced, or fails with ErrExists.
func (r Registry) insert(ctx context.Context, i Info) error {
	value, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encoding cluster %q: %w", i.Name, err)
	}
	err = r.Store.Commit(ctx, registryPartition, []table.Op{
		{Kind: table.Insert, Key: registryFrom + i.Name, Value: value},
		{Kind: table.Delete, Key: leftKey(i), ETag: table.Any},
	})
	if (errors.Is(err, table.ErrExists) || table.OutcomeUnknown(err)) && r.registered(ctx, i) {
		return nil
	}
	if errors.Is(err, table.ErrExists) {
		return fmt.Errorf("%w: %q", ErrExists, i.Name)
	}
	if err != nil {
		return fmt.Errorf("registering cluster %q: %w", i.Name, err)
	}
	return nil
}

// registered reports whether a transaction that seemed to fail was done: its reply was lost, or it was refused since a
// client of the store had sent it before.
func (r Registry) registered(ctx context.Context, i Info) bool {
	there, err := r.Get(ctx, i.Name)
	return err == nil && there.ID == i.ID
}

// holds reports whether a registered cluster has partitions whose names begin so.
func (r Registry) holds(ctx context.Context, partition string) (bool, error) {
	name, _, _ := strings.Cut(partition, ".")
	i, err := r.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && i.Partition() == partition, err
}

// removed reports whether a cluster is registered no more, after a transaction that seemed to fail.
func (r Registry) removed(ctx context.Context, i Info) bool {
	there, err := r.Get(ctx, i.Name)
	return errors.Is(err, ErrNotFound) || err == nil && there.ID != i.ID
}

// remove takes a cluster from the registry, and notes that its partitions are left. It fails with
// ErrNotFound when the cluster is not the one that was read.
func (r Registry) remove(ctx context.Context, i Info) error {
	value, err := left{Partition: i.Partition(), At: time.Now()}.encode()
	if err != nil {
		return err
	}
	err = r.Store.Commit(ctx, registryPartition, []table.Op{
		{Kind: table.Delete, Key: registryFrom + i.Name, ETag: i.etag},
		{Kind: table.Put, Key: leftKey(i), Value: value},
	})
	if table.OutcomeUnknown(err) && r.removed(ctx, i) {
		return nil
	}
	if errors.Is(err, table.ErrNotFound) || errors.Is(err, table.ErrChanged) {
		return fmt.Errorf("%w: %q", ErrNotFound, i.Name)
	}
	if err != nil {
		return fmt.Errorf("removing cluster %q: %w", i.Name, err)
	}
	return nil
}

// left notes the partitions of a cluster that is being made or deleted, since a time.
type left struct {
	Partition string    `json:"partition"`
	At        time.Time `json:"at"`
}

func (l left) encode() ([]byte, error) {
	value, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding what is left of a cluster: %w", err)
	}
	return value, nil
}

func decodeLeft(row table.Row) (left, error) {
	l := left{Partition: string(row.Value)} // as it was before it had a time
	if len(row.Value) == 0 || row.Value[0] != '{' {
		return l, nil
	}
	return l, json.Unmarshal(row.Value, &l)
}

// LeftPartition returns what a row names as the first part of the partitions of a cluster that is being made or
// deleted, empty if it names none.
func LeftPartition(row table.Row) string {
	l, err := decodeLeft(row)
	if err != nil {
		return ""
	}
	return l.Partition
}

// left returns the clusters whose making or deleting was begun and not ended.
func (r Registry) left(ctx context.Context) ([]left, error) {
	var out []left
	var broken error
	err := table.All(ctx, r.Store, registryPartition, table.Query{From: leftFrom, To: leftEnd}, func(row table.Row) bool {
		var l left
		if l, broken = decodeLeft(row); broken != nil || row.Key != leftFrom+l.Partition {
			broken = fmt.Errorf("%w: row %q of the cluster registry", table.ErrCorrupt, row.Key)
			return false
		}
		out = append(out, l)
		return true
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, fmt.Errorf("listing what is left of clusters: %w", err)
	}
	return out, nil
}

// forget removes the note of partitions that are empty.
func (r Registry) forget(ctx context.Context, partition string) error {
	err := table.Repeat(ctx, r.Store, registryPartition, []table.Op{{Kind: table.Delete, Key: leftFrom + partition, ETag: table.Any}})
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		return fmt.Errorf("forgetting the partitions %q: %w", partition, err)
	}
	return nil
}
