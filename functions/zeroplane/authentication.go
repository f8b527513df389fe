package main

import (
	"fmt"
	"os"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/oidc"
)

const authenticationHelp = `  ` + authenticationEnv + `
                            an AuthenticationConfiguration, as kube-apiserver's, in YAML or JSON: whose tokens are
                            accepted (docs/entra.md); or
  ` + authenticationFileEnv + `
                            a file with one`

// authenticationFile reads an AuthenticationConfiguration from the file that an option names, nil for none.
func authenticationFile(option, file string) (*oidc.Config, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	c, err := oidc.Load(data, apiserver.IsIssuer)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", option, file, err)
	}
	return c, nil
}

// authenticationFromEnv reads an AuthenticationConfiguration from the environment, or the file that it names: function
// apps have no place for files but the package.
func authenticationFromEnv() (*oidc.Config, error) {
	document, file := os.Getenv(authenticationEnv), os.Getenv(authenticationFileEnv)
	if document == "" {
		return authenticationFile(authenticationFileEnv, file)
	}
	if file != "" {
		return nil, fmt.Errorf("%s and %s are both set: say it once", authenticationEnv, authenticationFileEnv)
	}
	c, err := oidc.Load([]byte(document), apiserver.IsIssuer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", authenticationEnv, err)
	}
	return c, nil
}
