// Package naming makes names as the API server does for objects that have only a generateName. A decision that makes an object
// and tells another of it needs the name beforehand.
package naming

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	// maxBase and suffixLength are of names that the API server makes.
	//
	// Upstream: k8s.io/apiserver/pkg/storage/names/generate.go.
	maxBase      = 58
	suffixLength = 5
)

// Generate is a name that begins with base and that is not taken. The same seed gives the same name.
func Generate(base string, seed uint64, taken func(name string) bool) string {
	base = base[:min(len(base), maxBase)]
	for {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, seed))
		if name := base + rand.SafeEncodeString(hex.EncodeToString(sum[:])[:suffixLength]); !taken(name) {
			return name
		}
		seed = binary.BigEndian.Uint64(sum[len(sum)-8:])
	}
}
