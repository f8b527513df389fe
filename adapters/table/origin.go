package table

import "context"

type originKey struct{}

// WithOrigin returns a context whose calls of a store say what they are made for, such as "function/workloads",
// so that an account's logs tell who made which. Whoever calls first decides.
func WithOrigin(ctx context.Context, origin string) context.Context {
	if Origin(ctx) != "" {
		return ctx
	}
	return context.WithValue(ctx, originKey{}, origin)
}

// Origin is what a context's calls are made for, empty if nobody said.
func Origin(ctx context.Context) string {
	origin, _ := ctx.Value(originKey{}).(string)
	return origin
}
