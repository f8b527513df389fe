package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Adoption is a cluster that was made elsewhere, or earlier.
type Adoption struct {
	Name string
	// Created is when it was made first.
	Created time.Time
	Keys    Keys
	// Replace allows for a cluster of that name, whose rows are removed. Nothing of it may run.
	Replace bool
	// Write fills the cluster's partitions, whose names begin with partition. They are empty.
	Write func(ctx context.Context, partition string) error
}

// Adopt registers a cluster that has its objects and keys already. It fails with ErrName, or with ErrExists.
// Until the rows are complete nobody can find the cluster, and the one that it replaces is there; what a
// crash leaves, Sweep removes.
func (m Maker) Adopt(ctx context.Context, a Adoption) (Info, error) {
	if err := ValidateName(a.Name); err != nil {
		return Info{}, err
	}
	former, err := m.Registry.Get(ctx, a.Name)
	exists := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Info{}, err
	}
	if exists && !a.Replace {
		return Info{}, fmt.Errorf("%w: %q", ErrExists, a.Name)
	}
	info := Info{Name: a.Name, Created: a.Created}
	if info.ID, err = newID(); err != nil {
		return Info{}, err
	}
	if info.Sealed, err = m.Seal.close(a.Keys, info.Partition()); err != nil {
		return Info{}, err
	}
	if err := m.Registry.announce(ctx, info); err != nil {
		return Info{}, err
	}
	// What is removed is removed even if the caller has given up.
	if err := a.Write(ctx, info.Partition()); err != nil {
		return Info{}, errors.Join(err, m.discard(ctx, info))
	}
	if !exists {
		err = m.Registry.insert(ctx, info)
	} else if err = m.Registry.replace(ctx, former, info); err == nil {
		err = m.RemoveRows(context.WithoutCancel(ctx), former)
	}
	if errors.Is(err, ErrExists) {
		err = errors.Join(err, m.removeRows(context.WithoutCancel(ctx), info.Partition()))
	}
	return info, err
}

// replace puts a cluster that was announced in the place of another, whose partitions are left then. It
// fails with ErrExists when the other is not the one that was read.
func (r Registry) replace(ctx context.Context, former, i Info) error {
	value, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encoding cluster %q: %w", i.Name, err)
	}
	leaves, err := left{Partition: former.Partition(), At: time.Now()}.encode()
	if err != nil {
		return err
	}
	err = r.Store.Commit(ctx, registryPartition, []table.Op{
		{Kind: table.Update, Key: registryFrom + i.Name, Value: value, ETag: former.etag},
		{Kind: table.Put, Key: leftKey(former), Value: leaves},
		{Kind: table.Delete, Key: leftKey(i), ETag: table.Any},
	})
	if err != nil && !errors.Is(err, table.ErrInvalid) && r.registered(ctx, i) {
		return nil
	}
	if errors.Is(err, table.ErrNotFound) || errors.Is(err, table.ErrChanged) {
		return fmt.Errorf("%w: %q was made or deleted at the same time", ErrExists, i.Name)
	}
	if err != nil {
		return fmt.Errorf("registering cluster %q: %w", i.Name, err)
	}
	return nil
}
