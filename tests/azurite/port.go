package azurite

import (
	"net"
	"strconv"
)

// freePort returns a port of the loopback address that nobody listens at. Azurite could choose one itself, but
// does not say which.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return strconv.Itoa(port), l.Close()
}
