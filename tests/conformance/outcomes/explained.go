package outcomes

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// ReadExplained reads the tests that are known to fail here only: a line with a test's whole name, then lines, indented, with
// the reason. Empty lines and those that begin with # are for people.
func ReadExplained(from io.Reader) (map[string]string, error) {
	explained := map[string]string{}
	name := ""
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case lines.Text()[0] != ' ' && lines.Text()[0] != '\t':
			if name != "" && explained[name] == "" {
				return nil, fmt.Errorf("line %d: no reason is given for %q", n, name)
			}
			if _, twice := explained[text]; twice {
				return nil, fmt.Errorf("line %d: %q is there twice", n, text)
			}
			name, explained[text] = text, ""
		case name == "":
			return nil, fmt.Errorf("line %d: a reason without a test", n)
		default:
			explained[name] = strings.TrimSpace(explained[name] + " " + text)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if name != "" && explained[name] == "" {
		return nil, fmt.Errorf("no reason is given for %q", name)
	}
	return explained, nil
}
