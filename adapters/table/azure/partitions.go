package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/zeroplane/zeroplane/adapters/table"
)

var _ table.Lister = (*Store)(nil)

// maxEmptyPages of a query that looks for one row are read before it counts as a failure.
const maxEmptyPages = 1000

// Partitions implements table.Lister, one partition at a time, with a query for each. The store's own are left out.
func (s *Store) Partitions(ctx context.Context, after string) ([]string, error) {
	for {
		name, err := s.partitionAfter(ctx, after)
		if err != nil || name == "" {
			return nil, err
		}
		if name != storePartition && !strings.HasPrefix(name, scratch) {
			return []string{name}, nil
		}
		after = name
	}
}

// partitionAfter returns the first partition after a name, empty for none.
func (s *Store) partitionAfter(ctx context.Context, after string) (string, error) {
	top, filter, fields := int32(1), "PartitionKey gt '"+quote(after)+"'", "PartitionKey"
	options := &aztables.ListEntitiesOptions{Filter: &filter, Top: &top, Select: &fields}
	for range maxEmptyPages {
		var found []string
		var more bool
		err := s.retry(ctx, "listing partitions", mayPass, func(ctx context.Context) error {
			ctx, answer := withAnswer(ctx, 0)
			resp, err := s.client.NewListEntitiesPager(options).NextPage(ctx)
			if err != nil {
				return failure(err)
			}
			found, err = partitionNames(answer.body)
			options.NextPartitionKey, options.NextRowKey = resp.NextPartitionKey, resp.NextRowKey
			more = next(resp.NextPartitionKey, resp.NextRowKey) != ""
			return err
		})
		switch {
		case err != nil:
			return "", err
		case len(found) > 0:
			return found[0], nil
		case !more:
			return "", nil
		}
	}
	return "", fmt.Errorf("listing partitions: %d pages without a row", maxEmptyPages)
}

func partitionNames(body []byte) ([]string, error) {
	var page struct {
		Value []struct{ PartitionKey string }
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("%w: a page of partitions: %w", table.ErrCorrupt, err)
	}
	names := make([]string, len(page.Value))
	for i, v := range page.Value {
		names[i] = v.PartitionKey
	}
	return names, nil
}
