package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// moduleLine is the first line of the go.mod at the root of the repository.
const moduleLine = "module github.com/zeroplane/zeroplane\n"

// Root is the root of the repository that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod")) // #nosec G304
		if err == nil && bytes.HasPrefix(content, []byte(moduleLine)) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is not in zeroplane's repository")
		}
		dir = parent
	}
}

// BinariesDir is where the peers are built: $ZEROPLANE_PEERS, else .cache/peers at the root of the repository.
func BinariesDir() (string, error) {
	if dir := os.Getenv("ZEROPLANE_PEERS"); dir != "" {
		return dir, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".cache", "peers"), nil
}

// Binaries builds what of the peers is not built yet, all or the named ones, and gives their folder.
func Binaries(ctx context.Context, names ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := BinariesDir()
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, filepath.Join(root, "tests", "peers", "build.sh"), names...) // #nosec G204
	build.Env = append(os.Environ(), "ZEROPLANE_PEERS="+dir)
	// Progress goes to standard error: a first build takes minutes, and benchmarks print JSON on the other.
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building the peers: %w", err)
	}
	return dir, nil
}
