package azurite_test

import (
	"net/http"
	"testing"

	"github.com/zeroplane/zeroplane/tests/azurite"
)

func TestAServerAnswersUntilItIsStopped(t *testing.T) {
	s := azurite.Start(t)
	resp, err := http.Get(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a request without a signature gave %s", resp.Status)
	}
	s.Stop()
	if resp, err := http.Get(s.Endpoint); err == nil {
		_ = resp.Body.Close()
		t.Errorf("a server that was stopped gave %s", resp.Status)
	}
}

func TestTablesAreNamedApart(t *testing.T) {
	if a, b := azurite.TableName(t), azurite.TableName(t); a == b {
		t.Errorf("%q twice", a)
	}
}
