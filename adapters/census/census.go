// Package census counts what a store holds, and what that would cost on Azure Tables.
package census

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Prices of Azure Table Storage, in US dollars, and what else the estimate takes for granted.
const (
	// DollarsPerOperation is $0.00036 for 10,000.
	DollarsPerOperation = 0.00036 / 10000
	// DollarsPerGigabyteMonth of rows, locally redundant.
	DollarsPerGigabyteMonth = 0.045
	// HoursPerMonth is 365 days in 12 months.
	HoursPerMonth = 730
	gigabyte      = 1 << 30
)

// Partition is what one partition holds.
type Partition struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`
	// Bytes of keys and values.
	Bytes int64 `json:"bytes"`
}

// Log is a partition that is a log.
type Log struct {
	Partition
	Group    string `json:"group"`
	Revision uint64 `json:"revision"`
	// Floor is the oldest revision that can be read, 1 if all can.
	Floor   uint64 `json:"floor"`
	Objects int    `json:"objects"`
	// ChangesPerHour since the oldest change whose time is known, over SpanHours; 0 if none is.
	ChangesPerHour float64 `json:"changesPerHour"`
	SpanHours      float64 `json:"spanHours"`
	// TransactionsPerHour that made those changes, if they were shared as those were that are kept.
	TransactionsPerHour float64 `json:"transactionsPerHour"`
}

// Cluster is what one cluster holds.
type Cluster struct {
	Name string `json:"name"`
	Logs []Log  `json:"logs"`
	// Others are the partitions that are no logs.
	Others []Partition `json:"others"`
	// Kinds counts objects by resource and group, such as "deployments.apps".
	Kinds               map[string]int `json:"kinds"`
	Rows                int            `json:"rows"`
	Bytes               int64          `json:"bytes"`
	Objects             int            `json:"objects"`
	ChangesPerHour      float64        `json:"changesPerHour"`
	TransactionsPerHour float64        `json:"transactionsPerHour"`
	// OperationsDollars, for the transactions that change something, and StorageDollars are for a month.
	OperationsDollars float64 `json:"operationsDollarsPerMonth"`
	StorageDollars    float64 `json:"storageDollarsPerMonth"`
}

// Take counts one cluster. Others may write to it: each row is counted as it is when it is read.
func Take(ctx context.Context, store table.Store, info cluster.Info, now time.Time, progress func(rows int)) (Cluster, error) {
	c := Cluster{Name: info.Name, Kinds: map[string]int{}}
	for _, group := range kubestorage.Groups {
		l, err := takeLog(ctx, store, kubestorage.Partition(info.Partition(), group), now, c.Kinds, progress)
		if err != nil {
			return c, fmt.Errorf("counting cluster %q: %w", info.Name, err)
		}
		l.Group = group
		c.Logs = append(c.Logs, l)
		c.add(l.Partition)
		c.Objects += l.Objects
		c.ChangesPerHour += l.ChangesPerHour
		c.TransactionsPerHour += l.TransactionsPerHour
	}
	for _, group := range cluster.EventGroups {
		p, err := takePartition(ctx, store, kubestorage.Partition(info.Partition(), group), func(table.Row) {})
		if err != nil {
			return c, fmt.Errorf("counting cluster %q: %w", info.Name, err)
		}
		c.Others = append(c.Others, p)
		c.add(p)
	}
	c.OperationsDollars = c.TransactionsPerHour * HoursPerMonth * DollarsPerOperation
	c.StorageDollars = float64(c.Bytes) / gigabyte * DollarsPerGigabyteMonth
	return c, nil
}

func (c *Cluster) add(p Partition) {
	c.Rows += p.Rows
	c.Bytes += p.Bytes
}

func takePartition(ctx context.Context, store table.Store, name string, yield func(table.Row)) (Partition, error) {
	p := Partition{Name: name}
	err := table.All(ctx, store, name, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		p.Rows++
		p.Bytes += int64(len(name) + len(row.Key) + len(row.Value))
		yield(row)
		return ctx.Err() == nil
	})
	return p, errors.Join(err, ctx.Err())
}

func takeLog(ctx context.Context, store table.Store, name string, now time.Time, kinds map[string]int, progress func(int)) (Log, error) {
	const progressRows = 1000
	var l Log
	var oldest tablelog.Position
	var broken error
	floor, err := tablelog.New(store, name, tablelog.Options{}).Floor(ctx)
	if err != nil {
		return l, err
	}
	l.Floor = floor
	var kept sharing
	p, err := takePartition(ctx, store, name, func(row table.Row) {
		if l.Rows++; progress != nil && l.Rows%progressRows == 0 {
			progress(progressRows)
		}
		change, object, err := tablelog.Peek(row)
		switch {
		case err != nil:
			broken = err
		case object:
			l.Objects++
			gr, _, _ := kubestorage.ParseKey(change.Key)
			kinds[gr.String()]++
		case change.Written != 0 && (oldest.Rev == 0 || change.Rev < oldest.Rev):
			oldest = tablelog.Position{Rev: change.Rev, Written: change.Written}
		}
		if !object && change.Rev >= l.Floor {
			kept.add(change)
		}
		l.Revision = max(l.Revision, change.Rev)
	})
	l.Partition = p
	if err = errors.Join(err, broken); err != nil {
		return l, err
	}
	l.Revision = max(l.Revision, 1)
	if span := now.Sub(time.UnixMilli(oldest.Written)); oldest.Rev != 0 && span > 0 {
		l.SpanHours = span.Hours()
		l.ChangesPerHour = float64(l.Revision-oldest.Rev+1) / max(l.SpanHours, 1.0/60)
		l.TransactionsPerHour = l.ChangesPerHour * kept.share()
	}
	return l, nil
}

// sharing counts changes and the transactions that made them. Those of one transaction are next to each other and
// have its write-id.
type sharing struct {
	changes, transactions int
	last                  uint64
}

func (s *sharing) add(c tablelog.Saved) {
	if s.changes++; s.transactions == 0 || c.WriteID != s.last {
		s.transactions++
	}
	s.last = c.WriteID
}

// share is the number of transactions for each change.
func (s *sharing) share() float64 { return float64(s.transactions) / float64(max(s.changes, 1)) }
