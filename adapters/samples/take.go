package samples

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/samples"
	"github.com/zeroplane/zeroplane/events"
)

const (
	// maxAttempts bounds how often rows are merged again because others wrote them meanwhile.
	maxAttempts = 8
	// getAtMost rows are read one by one; more are a range.
	getAtMost = 4
	// commitBytes is how much one transaction writes, less than table.MaxCommitBytes by a row.
	commitBytes = table.MaxCommitBytes - table.MaxRowBytes
)

// Options of a keeper.
type Options struct {
	Store table.Store
	// Partition is the first part of the names of the cluster's partitions.
	Partition string
	Logs      kubestorage.Logs
	Decoder   kubestorage.Decoder
	Now       func() time.Time
}

// Keeper keeps the samples of one cluster.
type Keeper struct {
	store     table.Store
	partition string
	logs      kubestorage.Logs
	decoder   kubestorage.Decoder
	now       func() time.Time
}

// New returns the keeper of a cluster's samples.
func New(o Options) *Keeper {
	return &Keeper{store: o.Store, partition: kubestorage.Partition(o.Partition, Group), logs: o.Logs, decoder: o.Decoder, now: o.Now}
}

// Taken is what an event with samples came to.
type Taken struct {
	// Renewed counts the samples that were taken, Dropped those that were not.
	Renewed int
	Dropped map[samples.Reason]int
	// Pods are the namespaces of the pods that samples came of, External those of external metrics, where ""
	// stands for all. Samples that had come before count, since what they cause may not have been done.
	Pods, External []string
}

// Take stores the samples of an event: for a report of one node, with one read and one transaction. What it
// cannot take is dropped and counted. It fails when the store does; nothing keeps the same event from coming
// again then.
func (k *Keeper) Take(ctx context.Context, s events.Samples) (Taken, error) {
	ctx = begin(ctx)
	w, err := k.look(ctx)
	if err != nil {
		return Taken{}, err
	}
	t := &taking{Keeper: k, world: w, now: k.now(), rows: map[string]*pending{}, dropped: map[samples.Reason]int{}}
	if err := t.sort(s); err != nil {
		return Taken{}, err
	}
	for attempt := 1; ; attempt++ {
		again, err := t.merge(ctx)
		if err != nil {
			return Taken{}, fmt.Errorf("storing samples: %w", err)
		}
		if !again {
			break
		}
		if attempt == maxAttempts {
			return Taken{}, fmt.Errorf("storing samples: others wrote the same rows %d times", maxAttempts)
		}
	}
	out := t.taken()
	count(out)
	if len(out.Dropped) > 0 {
		slog.Info("samples were dropped", "cluster", s.Cluster, "reporter", s.Reporter, "taken", out.Renewed, "dropped", out.Dropped)
	}
	if t.inserted {
		if err := k.sweep(ctx, t.now); err != nil {
			slog.Warn("cannot remove samples whose time is over", "cluster", s.Cluster, "error", err)
		}
	}
	return out, nil
}

// pending is what comes to a row.
type pending struct {
	usage    []samples.Sample
	external []samples.Value
	// stored is set when the row has it; renewed and dropped say what became of it.
	stored  bool
	renewed int
	dropped map[samples.Reason]int
}

// taking is one event on its way into rows.
type taking struct {
	*Keeper
	world world
	now   time.Time
	rows  map[string]*pending
	// dropped are those that belong to no row.
	dropped map[samples.Reason]int
	// inserted is set when a row was added.
	inserted bool
}

func (t *taking) row(key string) *pending {
	if t.rows[key] == nil {
		t.rows[key] = &pending{}
	}
	return t.rows[key]
}

// sort brings samples to the rows that they belong to: those of a pod to its node's, whoever reports them.
func (t *taking) sort(s events.Samples) error {
	for _, n := range s.Nodes {
		if !t.world.hasNode(n.Name) {
			t.dropped[samples.Unknown]++
			continue
		}
		row := t.row(nodeKey(n.Name))
		row.usage = append(row.usage, sample(samples.Series{Node: n.Name}, n.Window, n.Usage))
	}
	for _, p := range s.Pods {
		pod, err := t.world.pod(p.Namespace, p.Name)
		if err != nil {
			return err
		}
		if pod == nil || pod.Spec.NodeName == "" {
			t.dropped[samples.Unknown] += len(p.Containers)
			continue
		}
		row := t.row(nodeKey(pod.Spec.NodeName))
		for _, c := range p.Containers {
			id := samples.Series{Node: pod.Spec.NodeName, Namespace: p.Namespace, Pod: p.Name, Container: c.Name}
			row.usage = append(row.usage, sample(id, p.Window, c.Usage))
		}
	}
	for _, x := range s.External {
		row := t.row(externalKey(x.Name))
		row.external = append(row.external, samples.Value{
			Namespace: x.Namespace, Metric: x.Name, Labels: x.Labels, Timestamp: x.End, Window: seconds(x.Seconds), Value: x.Value,
		})
	}
	return nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func sample(of samples.Series, w events.Window, u events.Usage) samples.Sample {
	return samples.Sample{Series: of, Timestamp: w.End, Window: seconds(w.Seconds), Usage: map[corev1.ResourceName]float64{
		corev1.ResourceCPU:    float64(u.CPU.ScaledValue(resource.Nano)) / 1e9,
		corev1.ResourceMemory: u.Memory.AsApproximateFloat64(),
	}}
}

// merge reads the rows that are not stored yet, merges what came into them, and writes them. It reports whether
// some were written by others meanwhile.
func (t *taking) merge(ctx context.Context) (again bool, err error) {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		if !t.rows[key].stored {
			keys = append(keys, key)
		}
	}
	read, err := t.read(ctx, keys)
	if err != nil {
		return false, err
	}
	var ops []table.Op
	size := 0
	flush := func() error {
		failed, err := t.commit(ctx, ops)
		again = again || failed
		ops, size = nil, 0
		return err
	}
	for _, key := range keys {
		op, err := t.op(key, read[key])
		if err != nil {
			return false, err
		}
		if op == nil {
			t.rows[key].stored = true
			continue
		}
		ops = append(ops, *op)
		if size += len(op.Value); len(ops) == table.MaxOps || size > commitBytes {
			if err := flush(); err != nil {
				return false, err
			}
		}
	}
	if len(ops) > 0 {
		err = flush()
	}
	return again, err
}

// read returns those of the rows that exist.
func (k *Keeper) read(ctx context.Context, keys []string) (map[string]table.Row, error) {
	out := map[string]table.Row{}
	if len(keys) <= getAtMost {
		for _, key := range keys {
			row, err := k.store.Get(ctx, k.partition, key)
			if errors.Is(err, table.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out[key] = row
		}
		return out, nil
	}
	q := table.Query{From: keys[0], To: keys[len(keys)-1] + " "}
	err := table.All(ctx, k.store, k.partition, q, func(row table.Row) bool {
		if _, wanted := slices.BinarySearch(keys, row.Key); wanted {
			out[row.Key] = row
		}
		return true
	})
	return out, err
}

// op is what makes a row what it shall be, nil if nothing is to be done. The row has no key if there is none.
func (t *taking) op(key string, row table.Row) (*table.Op, error) {
	p := t.rows[key]
	value, left, err := t.merged(p, row)
	exists := row.Key != ""
	switch {
	case err != nil:
		return nil, err
	case left == 0 && !exists, p.renewed == 0 && left > 0:
		return nil, nil
	case left == 0:
		return &table.Op{Kind: table.Delete, Key: key, ETag: row.ETag}, nil
	case !exists:
		return &table.Op{Kind: table.Insert, Key: key, Value: value}, nil
	}
	return &table.Op{Kind: table.Update, Key: key, Value: value, ETag: row.ETag}, nil
}

// merged is the value of a row with what comes to it, and how many series that has.
func (t *taking) merged(p *pending, row table.Row) (value []byte, left int, err error) {
	if p.external != nil {
		kept := samples.Values{}
		if row.Key != "" {
			if kept, err = decodeExternal(row); err != nil {
				return nil, 0, err
			}
		}
		r := samples.MergeValues(samples.ValuesInput{Kept: kept, Batch: p.external, Known: t.world.hasNamespace, Now: t.now})
		p.renewed, p.dropped = r.Renewed, r.Dropped
		value, err = encodeExternal(r.Kept)
		return value, len(r.Kept), err
	}
	kept := samples.Set{}
	if row.Key != "" {
		if err := decodeNode(row, kept); err != nil {
			return nil, 0, err
		}
	}
	r := samples.Merge(samples.Input{Kept: kept, Batch: p.usage, Known: t.world.knows, Now: t.now})
	p.renewed, p.dropped = r.Renewed, r.Dropped
	value, err = encodeNode(r.Kept)
	return value, len(r.Kept), err
}

// commit writes rows together. It reports whether others wrote one of them meanwhile, and none was.
func (t *taking) commit(ctx context.Context, ops []table.Op) (failed bool, err error) {
	err = t.store.Commit(ctx, t.partition, ops)
	if _, conflict := errors.AsType[*table.ConflictError](err); conflict {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, op := range ops {
		t.rows[op.Key].stored = true
		t.inserted = t.inserted || op.Kind == table.Insert
	}
	return false, nil
}

func (t *taking) taken() Taken {
	out := Taken{Dropped: t.dropped}
	pods, external := map[string]bool{}, map[string]bool{}
	for _, p := range t.rows {
		out.Renewed += p.renewed
		for reason, n := range p.dropped {
			out.Dropped[reason] += n
		}
		if p.renewed+p.dropped[samples.Superseded] == 0 {
			continue
		}
		for _, s := range p.usage {
			if s.Series.Namespace != "" {
				pods[s.Series.Namespace] = true
			}
		}
		for _, v := range p.external {
			external[v.Namespace] = true
		}
	}
	out.Pods, out.External = slices.Sorted(maps.Keys(pods)), slices.Sorted(maps.Keys(external))
	return out
}

// sweep removes the rows of nodes of which nothing counts any more. Who adds a row calls it: so there are never
// more rows than nodes that reported within TTL of each other, and nothing has to look while nothing comes.
func (k *Keeper) sweep(ctx context.Context, now time.Time) error {
	var over []table.Op
	var broken error
	err := table.All(ctx, k.store, k.partition, table.Query{From: nodeClass, To: nodeEnd}, func(row table.Row) bool {
		set := samples.Set{}
		if broken = decodeNode(row, set); broken != nil {
			return false
		}
		if left := samples.Merge(samples.Input{Kept: set, Now: now}); len(left.Kept) == 0 {
			over = append(over, table.Op{Kind: table.Delete, Key: row.Key, ETag: row.ETag})
		}
		return true
	})
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	for chunk := range slices.Chunk(over, table.MaxOps) {
		err := k.store.Commit(ctx, k.partition, chunk)
		if _, conflict := errors.AsType[*table.ConflictError](err); err != nil && !conflict { // one that was renewed stays, and the others with it
			return err
		}
	}
	return nil
}

// world is what there is to be measured.
type world struct {
	decoder             kubestorage.Decoder
	pods, nodes, config *tablelog.State
}

// look loads what there is to be measured, now.
func (k *Keeper) look(ctx context.Context) (world, error) {
	w := world{decoder: k.decoder}
	for group, state := range map[string]**tablelog.State{
		kubestorage.PodsGroup: &w.pods, kubestorage.NodesGroup: &w.nodes, kubestorage.ConfigGroup: &w.config,
	} {
		current, err := k.logs[group].Current(ctx)
		if err != nil {
			return w, fmt.Errorf("loading the log %s: %w", group, err)
		}
		*state = current
	}
	return w, nil
}

func (w world) hasNode(name string) bool {
	return w.nodes.Get(kubestorage.KeyOf(plan.Nodes.GroupResource(), "", name)) != nil
}

func (w world) hasNamespace(name string) bool {
	return w.config.Get(kubestorage.KeyOf(plan.Namespaces.GroupResource(), "", name)) != nil
}

// pod returns a pod, nil if there is none.
func (w world) pod(namespace, name string) (*corev1.Pod, error) {
	e := w.pods.Get(kubestorage.KeyOf(plan.Pods.GroupResource(), namespace, name))
	if e == nil {
		return nil, nil
	}
	return object[*corev1.Pod](w.decoder, e)
}

// object returns the object of an entry.
func object[T any](d kubestorage.Decoder, e *tablelog.Entry) (T, error) {
	var none T
	obj, err := d.Object(e)
	if err != nil {
		return none, err
	}
	typed, ok := obj.(T)
	if !ok {
		return none, fmt.Errorf("%w: %s is a %T", table.ErrCorrupt, e.Key, obj)
	}
	return typed, nil
}

// knows reports whether a series is of a node, or of a container of a pod on it, that there is. A pod that cannot
// be decoded has no containers that could be told.
func (w world) knows(id samples.Series) bool {
	if id.Pod == "" {
		return w.hasNode(id.Node)
	}
	pod, err := w.pod(id.Namespace, id.Pod)
	if err != nil || pod == nil || pod.Spec.NodeName != id.Node {
		return false
	}
	named := func(c corev1.Container) bool { return c.Name == id.Container }
	return slices.ContainsFunc(pod.Spec.Containers, named) || slices.ContainsFunc(pod.Spec.InitContainers, named) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == id.Container })
}
