package consumer

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// CheckDueRow returns why a row cannot be one of what was put off.
func CheckDueRow(row table.Row) error {
	var d dueRow
	if err := json.Unmarshal(row.Value, &d); err != nil {
		return fmt.Errorf("the row cannot be decoded: %w", err)
	}
	if d.Function == "" || d.Later.At.IsZero() {
		return errors.New("the row does not name a function and a time")
	}
	if want := dueKey(d.Later.At, subject(d.Function, d.Later)); row.Key != want {
		return fmt.Errorf("the row is of what has the key %q", want)
	}
	return nil
}
