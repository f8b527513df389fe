package azurite

// Run starts a service for a program that is no test, which must Stop it.
func Run() (*Server, error) { return start() }
