package events

import (
	"embed"
	"fmt"
)

//go:embed schemas/*.json examples/*.json
var files embed.FS

// Types returns the types of events of this package, sorted.
func Types() []string { return []string{DueType, ChangedType, SamplesType, TimerType} }

// Schema returns the JSON schema (2020-12) of a type: of the whole event in the structured mode of the
// JSON format, data included. It returns ErrUnknownType.
func Schema(eventType string) ([]byte, error) { return file("schemas", eventType) }

// Example returns an example of a type, in the structured mode of the JSON format. It returns
// ErrUnknownType.
func Example(eventType string) ([]byte, error) { return file("examples", eventType) }

func file(folder, eventType string) ([]byte, error) {
	b, err := files.ReadFile(folder + "/" + eventType + ".json")
	if err != nil {
		return nil, fmt.Errorf("%w: %q has no file in %s", ErrUnknownType, eventType, folder)
	}
	return b, nil
}
