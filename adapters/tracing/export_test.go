package tracing

import (
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

func TestACollectorThatDoesNotAnswerIsNotWaitedForAtEachCall(t *testing.T) {
	t.Setenv(EndpointEnv, "http://127.0.0.1:1")
	stop, err := Export(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	work := func() {
		var none *tablelog.Cause
		_, span := Begin(t.Context(), none, Work{Name: "work"})
		span.End()
		Flush(t.Context())
	}
	work()
	until := silent.Load()
	if until <= time.Now().UnixNano() {
		t.Fatal("the next call waits, too")
	}
	work()
	if again := silent.Load(); again != until {
		t.Error("the next call has waited")
	}
}
