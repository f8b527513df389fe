package kubestorage

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// atOnce is how many tests run at a time: most of what upstream's take is waiting for bookmarks and times to live.
const atOnce = "12"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
