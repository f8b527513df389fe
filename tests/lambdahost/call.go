package lambdahost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// call is one of a function.
type call struct {
	id       string
	payload  []byte
	deadline time.Time
	// client gets an answer of HTTP, nil for a call that is none of a URL.
	client http.ResponseWriter
	// began is set when the client has got something.
	began bool
	// answer is one that is not streamed.
	answer []byte

	once sync.Once
	done chan struct{}
	err  error
}

// finish ends a call.
func (c *call) finish(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
	})
}

func (c *call) finished() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stream passes an answer on to the client as it comes. A client that has gone does not end the function: the rest is
// read, and paid for.
func (c *call) stream(body io.Reader, withHeader bool) error {
	if c.client == nil || !withHeader {
		var err error
		c.answer, err = io.ReadAll(body)
		return err
	}
	in := bufio.NewReader(body)
	if err := c.header(in); err != nil {
		return err
	}
	flush := http.NewResponseController(c.client).Flush
	_ = flush() // a client that has gone
	buf := make([]byte, 32<<10)
	gone := false
	for {
		n, err := in.Read(buf)
		if n > 0 && !gone {
			_, failed := c.client.Write(buf[:n])
			gone = failed != nil || flush() != nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: its answer broke off: %w", errFunction, err)
		}
	}
}

// header reads the answer's header, which ends with eight zeros, and begins the client's answer.
func (c *call) header(in *bufio.Reader) error {
	var raw []byte
	end := make([]byte, preludeEnd)
	for !bytes.HasSuffix(raw, end) {
		b, err := in.ReadByte()
		if err != nil || len(raw) > maxPrelude {
			return fmt.Errorf("%w: its answer has no header: %q", errFunction, raw)
		}
		raw = append(raw, b)
	}
	var prelude struct {
		StatusCode int               `json:"statusCode"`
		Headers    map[string]string `json:"headers"`
		Cookies    []string          `json:"cookies"`
	}
	if json.Unmarshal(raw[:len(raw)-preludeEnd], &prelude) != nil || prelude.StatusCode < http.StatusOK {
		return fmt.Errorf("%w: its answer's header is %q", errFunction, raw)
	}
	for name, value := range prelude.Headers {
		c.client.Header().Set(name, value)
	}
	for _, cookie := range prelude.Cookies {
		c.client.Header().Add("Set-Cookie", cookie)
	}
	c.began = true
	c.client.WriteHeader(prelude.StatusCode)
	return nil
}
