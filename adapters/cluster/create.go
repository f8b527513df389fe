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
)

// Maker creates and deletes clusters.
type Maker struct {
	Registry Registry
	Seal     Seal
	// Host and Port at which pods reach the API; RootCA, in PEM, signs its certificate.
	Host   string
	Port   int
	RootCA []byte
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
	id := make([]byte, idBytes)
	if _, err := rand.Read(id); err != nil {
		return Info{}, Keys{}, fmt.Errorf("drawing the cluster's id: %w", err)
	}
	info := Info{Name: name, ID: hex.EncodeToString(id), Created: now.UTC().Truncate(time.Second)}
	keys, err := newKeys(name, now)
	if err != nil {
		return Info{}, Keys{}, err
	}
	if info.Sealed, err = m.Seal.close(keys, info.Partition()); err != nil {
		return Info{}, Keys{}, err
	}
	if err := m.bear(ctx, info, keys); err != nil {
		return Info{}, Keys{}, fmt.Errorf("writing the first objects of cluster %q: %w", name, err)
	}
	return info, keys, m.Registry.insert(ctx, info)
}

// bear writes a cluster's first objects. Its partitions are new, since their names hold its id.
func (m Maker) bear(ctx context.Context, info Info, keys Keys) error {
	birth := Birth{Host: m.Host, Port: m.Port, RootCA: m.RootCA, ClientCA: keys.CACertificate, Now: metav1.NewTime(info.Created)}
	byGroup, err := birth.changes()
	if err != nil {
		return err
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

// Delete takes a cluster from the registry, and then removes its rows. Whatever stops it in between
// leaves rows that nobody can reach and that a later cluster of the name does not meet.
func (m Maker) Delete(ctx context.Context, name string) error {
	info, err := m.Registry.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := m.Registry.remove(ctx, name); err != nil {
		return err
	}
	for _, group := range append(kubestorage.Groups, EventGroups...) {
		if err := m.empty(ctx, kubestorage.Partition(info.Partition(), group)); err != nil {
			return fmt.Errorf("removing the rows of cluster %q: %w", name, err)
		}
	}
	return nil
}

// EventGroups are the partitions of a cluster that are not logs of objects.
var EventGroups = []string{"cursors", "due"}

// empty removes all rows of a partition.
func (m Maker) empty(ctx context.Context, partition string) error {
	for {
		page, err := m.Registry.Store.Range(ctx, partition, table.Query{From: " ", To: "\x7e", Limit: table.MaxOps})
		if err != nil {
			return err
		}
		if len(page.Rows) == 0 {
			if page.Next == "" {
				return nil
			}
			continue
		}
		ops := make([]table.Op, len(page.Rows))
		for i, row := range page.Rows {
			ops[i] = table.Op{Kind: table.Delete, Key: row.Key, ETag: table.Any}
		}
		if err := m.Registry.Store.Commit(ctx, partition, ops); err != nil && !errors.Is(err, table.ErrNotFound) {
			return err
		}
	}
}
