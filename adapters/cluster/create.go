package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

type (
	flowSchema    = flowcontrolv1.FlowSchema
	priorityLevel = flowcontrolv1.PriorityLevelConfiguration
)

const (
	idBytes = 4
	// birthChanges fit in one transaction with room for the largest of them.
	birthChanges = table.MaxOps / 2
	// firstKey and lastKey are around every row key (table.ValidateKey).
	firstKey, lastKey = " ", "\x7f"
)

// Maker creates and deletes clusters.
type Maker struct {
	Registry Registry
	Seal     Seal
	// Host and Port at which pods reach the API; RootCA, in PEM, signs its certificate.
	Host   string
	Port   int
	RootCA []byte
	// Shared is set when others may write to the store: rows of a deleted cluster may come after they were
	// removed, and are removed again by Sweep.
	Shared bool
	// Encryption, if set, encrypts what is stored of a resource.
	Encryption value.ResourceTransformers
}

// Create makes a cluster and returns it with its keys. It fails with ErrName or ErrExists.
func (m Maker) Create(ctx context.Context, name string, now time.Time) (Info, Keys, error) {
	if err := ValidateName(name); err != nil {
		return Info{}, Keys{}, err
	}
	switch _, err := m.Registry.Get(ctx, name); {
	case err == nil:
		return Info{}, Keys{}, fmt.Errorf("%w: %q", ErrExists, name)
	case !errors.Is(err, ErrNotFound):
		return Info{}, Keys{}, err
	}
	id, err := newID()
	if err != nil {
		return Info{}, Keys{}, err
	}
	info := Info{Name: name, ID: id, Created: now.UTC().Truncate(time.Second)}
	keys, err := newKeys(name, now)
	if err != nil {
		return Info{}, Keys{}, err
	}
	if info.Sealed, err = m.Seal.close(keys, info.Partition()); err != nil {
		return Info{}, Keys{}, err
	}
	if err := m.Registry.announce(ctx, info); err != nil {
		return Info{}, Keys{}, err
	}
	if err := m.bear(ctx, info, keys); err != nil {
		return Info{}, Keys{}, errors.Join(fmt.Errorf("writing the first objects of cluster %q: %w", name, err), m.discard(ctx, info))
	}
	err = m.Registry.insert(ctx, info)
	if errors.Is(err, ErrExists) { // made at the same time: this one is nobody's
		return Info{}, Keys{}, errors.Join(err, m.removeRows(ctx, info.Partition()))
	}
	return info, keys, err
}

func newID() (string, error) {
	id := make([]byte, idBytes)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("drawing the cluster's id: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// bear writes a cluster's first objects. Its partitions are new, since their names hold its id.
func (m Maker) bear(ctx context.Context, info Info, keys Keys) error {
	birth := Birth{Host: m.Host, Port: m.Port, RootCA: m.RootCA, ClientCA: keys.CACertificate, Now: metav1.NewTime(info.Created)}
	byGroup, err := birth.changes()
	if err != nil {
		return err
	}
	for _, changes := range byGroup {
		for i, c := range changes {
			if changes[i].Value, err = kubestorage.Encrypt(ctx, m.Encryption, c.Key, c.Value); err != nil {
				return err
			}
		}
	}
	logs := kubestorage.NewLogs(m.Registry.Store, info.Partition(), func(string) tablelog.Options { return tablelog.Options{SoleWriter: true} })
	for _, group := range sortedKeys(byGroup) {
		for changes := byGroup[group]; len(changes) > 0; {
			n := min(len(changes), birthChanges)
			if _, _, err := logs[group].Commit(ctx, changes[:n], nil); err != nil {
				return err
			}
			changes = changes[n:]
		}
	}
	return nil
}

// Unregister takes a cluster from the registry: nobody can reach it any more, and a later cluster of
// its name is another one. It fails with ErrNotFound. RemoveRows must follow, when nothing of the
// cluster runs.
func (m Maker) Unregister(ctx context.Context, name string) (Info, error) {
	info, err := m.Registry.Get(ctx, name)
	if err != nil {
		return info, err
	}
	return info, m.Registry.remove(ctx, info)
}

// RemoveRows removes the rows of a cluster that was unregistered.
func (m Maker) RemoveRows(ctx context.Context, i Info) error {
	remove := m.removeRows
	if m.Shared {
		remove = m.emptyAll
	}
	if err := remove(ctx, i.Partition()); err != nil {
		return fmt.Errorf("removing the rows of cluster %q: %w", i.Name, err)
	}
	return nil
}

// discard removes the rows of a cluster that was not registered. Where one of its transactions may be under way yet,
// the note of them stays, for Sweep.
func (m Maker) discard(ctx context.Context, i Info) error {
	return m.RemoveRows(context.WithoutCancel(ctx), i)
}

// Sweep removes what a crash left of clusters whose making or deleting began before a time. Nobody may be
// at it any more.
func (m Maker) Sweep(ctx context.Context, before time.Time) error {
	all, err := m.Registry.left(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.At.After(before) {
			continue
		}
		remove := m.removeRows
		registered, err := m.Registry.holds(ctx, l.Partition)
		if err != nil {
			return err
		}
		if registered { // the note came late, or twice
			remove = m.Registry.forget
		}
		if err := remove(ctx, l.Partition); err != nil {
			return fmt.Errorf("removing the rows that a crash left of cluster %q: %w", l.Partition, err)
		}
	}
	return nil
}

// removeRows removes all rows of a cluster, and then the note of them.
func (m Maker) removeRows(ctx context.Context, partition string) error {
	if err := m.emptyAll(ctx, partition); err != nil {
		return err
	}
	return m.Registry.forget(ctx, partition)
}

func (m Maker) emptyAll(ctx context.Context, partition string) error {
	for _, groups := range [][]string{kubestorage.Groups, EventGroups} {
		for _, group := range groups {
			if err := m.empty(ctx, kubestorage.Partition(partition, group)); err != nil {
				return err
			}
		}
	}
	return nil
}

// EventGroups are the partitions of a cluster that are not logs of objects.
var EventGroups = []string{"cursors", "metrics", deadletter.Group}

// empty removes all rows of a partition.
func (m Maker) empty(ctx context.Context, partition string) error {
	q := table.Query{From: firstKey, To: lastKey, Limit: table.MaxOps}
	for {
		page, err := m.Registry.Store.Range(ctx, partition, q)
		if err != nil {
			return err
		}
		ops := make([]table.Op, len(page.Rows))
		for i, row := range page.Rows {
			ops[i] = table.Op{Kind: table.Delete, Key: row.Key, ETag: table.Any}
		}
		if len(ops) > 0 {
			err := table.Repeat(ctx, m.Registry.Store, partition, ops)
			if errors.Is(err, table.ErrNotFound) { // it was done, or another instance empties it too: look again
				q.Continue = ""
				continue
			}
			if err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Continue = page.Next
	}
}
