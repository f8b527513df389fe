package tablelog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Row keys are a class, a dash and a name. The classes sort apart.
const (
	logClass    = "l-"
	objectClass = "o-"
	valueClass  = "v-"
	// floorKey is the one row of its kind: what compaction has left.
	floorKey = "m-floor"
	// classEnd sorts after every name of a class: '.' follows '-'.
	logEnd    = "l."
	objectEnd = "o."
)

// firstRevision is that of an empty log; the first change has the one after it.
const firstRevision = 1

// maxEscaped bounds an escaped name: what a row key may hold, less its class.
const maxEscaped = table.MaxKeyBytes - len(objectClass)

// logKey is the row key of a revision. Revisions are complemented so that the newest sorts first
// and the head of the log is one row away.
func logKey(rev uint64) string { return string(appendHex([]byte(logClass), ^rev)) }

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&0xf])
	}
	return b
}

// valueKey is the row key of a part of a value that is too large to stand in its log row.
func valueKey(rev uint64, part int) string {
	return fmt.Sprintf("%s%016x-%02x", valueClass, rev, part)
}

func objectKey(name string) string { return objectClass + escape(name) }

// escaped maps each byte that a table refuses, and each byte that starts an escape, to two bytes
// that sort where the byte sorts. The byte before a refused one, in order, starts the escapes of
// both: '.' becomes ".0" and '/' becomes ".1", and so on.
var escaped = [256]string{
	' ': " 1",
	'"': "\"0", '#': "\"1",
	'&': "&0", '\'': "&1",
	'.': ".0", '/': ".1",
	'>': ">0", '?': ">1",
	'[': "[0", '\\': "[1",
	'~': "~0",
}

// escape makes a row key of a name. It is injective and keeps the order of names, except among
// names so long that their ends are replaced by a hash.
func escape(name string) string {
	var b strings.Builder
	b.Grow(len(name) + 16)
	for i := range len(name) {
		c := name[i]
		switch e := escaped[c]; {
		case e != "":
			b.WriteString(e)
		case c < 0x20:
			fmt.Fprintf(&b, " 0%02x", c)
		case c >= 0x7f:
			fmt.Fprintf(&b, "~1%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() <= maxEscaped {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	tail := "~2" + hex.EncodeToString(sum[:])
	return b.String()[:maxEscaped-len(tail)] + tail
}
