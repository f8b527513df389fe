package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/doorbell/eventgrid"
	"github.com/zeroplane/zeroplane/adapters/doorbell/sqs"
	"github.com/zeroplane/zeroplane/adapters/doorbell/storagequeue"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/functions/azurehost"
	"github.com/zeroplane/zeroplane/functions/lambdahost"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/zeroplane/startup"
	"github.com/zeroplane/zeroplane/functions/zeroplane/startup/ahead"
)

// What a function app's settings say, beside the credentials of its storage account.
const (
	addressEnv = "ZEROPLANE_ADDRESS"
	tableEnv   = "ZEROPLANE_TABLE"
	caFileEnv  = "ZEROPLANE_CA_FILE"
	// authenticationEnv is an AuthenticationConfiguration, authenticationFileEnv a file with one.
	authenticationEnv     = "ZEROPLANE_AUTHENTICATION_CONFIG"
	authenticationFileEnv = "ZEROPLANE_AUTHENTICATION_CONFIG_FILE"
	// schedulerEnv is a KubeSchedulerConfiguration, schedulerFileEnv a file with one.
	schedulerEnv     = "ZEROPLANE_SCHEDULER_CONFIG"
	schedulerFileEnv = "ZEROPLANE_SCHEDULER_CONFIG_FILE"
	// websiteEnv is set by Azure to the name of the app's own.
	websiteEnv = "WEBSITE_HOSTNAME"
)

// idleConnections to one service are kept on AWS Lambda, as by Azure's own client: 2 would have busy moments dial.
const idleConnections = 10

// hostWord begins the commands that hosts start.
const hostWord = "host"

func hostCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   hostWord,
		Short: "Serve clusters where functions are hosted",
		Long:  `Serve clusters as the handler of a host that starts and ends it as there is work. People do not run this; hosts do.`,
	}
	azureHost := &cobra.Command{
		Use:   "azure",
		Short: "Be the custom handler of an Azure function app",
		Long: `Be the custom handler of an Azure function app (docs/deploy-azure.md). The Functions host sets ` + azurehost.PortEnv + `.
The app's settings say the rest:

  AZURE_STORAGE_ACCOUNT     the storage account with the table and the queue (or AZURE_STORAGE_CONNECTION_STRING)
  ` + localhost.SealKeyEnv + `       what clusters' keys are sealed with: openssl rand -base64 32
  ` + addressEnv + `         the name at which clients reach the app, if not $` + websiteEnv + `
  ` + tableEnv + `           the table, ` + azure.DefaultTable + ` if not set
  ZEROPLANE_BELLS_QUEUE     the queue of the function "bells", ` + storagequeue.DefaultQueue + ` if not set
  ` + caFileEnv + `         a file with the CA of the app's certificate, if it is not a public one
  ` + logLevelEnv + `       debug, info, warn or error; info, which has every decision, if not set
` + documentsHelp + `

` + topicHelp + `

` + tracesHelp,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return traced(cmd, hostAzure) },
	}
	awsHost := &cobra.Command{
		Use:   "aws",
		Short: "Be the handler of an AWS Lambda function",
		Long: `Be the handler of an AWS Lambda function (docs/deploy-aws.md), of requests to its URL as of SQS and EventBridge.
Lambda sets ` + lambdahost.RuntimeEnv + ` and the credentials of the function's role. The function's variables say the rest:

  AZURE_STORAGE_CONNECTION_STRING  the storage account with the table
  ` + localhost.SealKeyEnv + `               what clusters' keys are sealed with: openssl rand -base64 32
  ` + addressEnv + `                the name at which clients reach the function's URL
  ` + tableEnv + `                  the table, ` + azure.DefaultTable + ` if not set
  ZEROPLANE_BELLS_QUEUE            the address of the SQS queue that the function hears
  ` + caFileEnv + `                a file with the CA of the URL's certificate, if it is not a public one
  ` + logLevelEnv + `              debug, info, warn or error; info, which has every decision, if not set
` + documentsHelp + `

` + tracesHelp,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return traced(cmd, hostAWS) },
	}
	var out string
	kubeconfig := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Write the admin's kubeconfig of a hosted default cluster",
		Long: `Write the admin's kubeconfig of the default cluster of a function app or a Lambda function, which is made if there is none. The
environment must say what the app's settings say: see zeroplane host azure --help and zeroplane host aws --help.`,
		Example: `  zeroplane host kubeconfig --out app.kubeconfig && kubectl --kubeconfig app.kubeconfig get nodes`,
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return hostKubeconfig(cmd, out) },
	}
	kubeconfig.Flags().StringVar(&out, "out", "", "file to write it to, for its owner alone (default standard output)")
	cmd.AddCommand(azureHost, awsHost, kubeconfig)
	return cmd
}

// topicHelp says what has bells be pushed.
const topicHelp = `  ZEROPLANE_EVENTGRID_TOPIC the endpoint of an Event Grid topic that pushes bells to /events; none are if not set
  ZEROPLANE_EVENTGRID_STREAM
                            https://NAMESPACE.REGION-1.eventgrid.azure.net/topics/TOPIC gets the stream of changes
  ZEROPLANE_EVENTGRID_KEY, ZEROPLANE_EVENTGRID_STREAM_KEY
                            their keys, where the identity has no right to send`

// publishTo has a host publish to the topics that the environment names.
func publishTo(o *localhost.Options) error {
	for to, topic := range map[*localhost.Publisher]eventgrid.Options{&o.Pushes: eventgrid.TopicFromEnv(), &o.Stream: eventgrid.StreamFromEnv()} {
		if topic.Endpoint == "" {
			continue
		}
		opened, err := eventgrid.Open(topic)
		if err != nil {
			return err
		}
		*to = opened
	}
	return nil
}

func hostKubeconfig(cmd *cobra.Command, out string) (err error) {
	o, err := hostedOptions(cmd.Context(), nil)
	if err != nil {
		return err
	}
	h, err := localhost.OpenBehind(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	config, err := h.Kubeconfig(cmd.Context())
	if err != nil {
		return err
	}
	if out != "" {
		return localhost.WriteSecret(out, config)
	}
	_, err = cmd.OutOrStdout().Write(config)
	return err
}

func hostAzure(ctx context.Context) error {
	port := os.Getenv(azurehost.PortEnv)
	if port == "" {
		return fmt.Errorf("%s is not set: the Azure Functions host starts this command, and sets it. On one machine use zeroplane serve", azurehost.PortEnv)
	}
	o, err := hostedOptions(ctx, nil)
	if err != nil {
		return err
	}
	o.Front.LongestAnswer = azurehost.LongestAnswer
	if o.Bells, err = storagequeue.Open(storagequeue.OptionsFromEnv()); err != nil {
		return err
	}
	if err := publishTo(&o); err != nil {
		return err
	}
	h, err := localhost.OpenBehind(o)
	if err != nil {
		return err
	}
	return azurehost.Serve(ctx, h, net.JoinHostPort("127.0.0.1", port), func(net.Addr) { startup.Served(false) })
}

func hostAWS(ctx context.Context) error {
	if os.Getenv(lambdahost.RuntimeEnv) == "" {
		return fmt.Errorf("%s is not set: AWS Lambda starts this command, and sets it. On one machine use zeroplane serve", lambdahost.RuntimeEnv)
	}
	h, err := openAWS(ctx)
	if err != nil {
		return errors.Join(err, lambdahost.ReportFailedStart(ctx, err))
	}
	startup.Done() // memory is what the function has, and the process may be frozen before a moment has passed
	return lambdahost.Serve(h)
}

func openAWS(ctx context.Context) (*lambdahost.Handler, error) {
	// One client for all, whose connections can be given up after the process was frozen.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = idleConnections
	client := &http.Client{Transport: transport}
	queue := sqs.OptionsFromEnv()
	queue.Client = client
	bells, err := sqs.Open(queue)
	if err != nil {
		return nil, err
	}
	o, err := hostedOptions(ctx, client)
	if err != nil {
		return nil, err
	}
	o.Bells, o.Front.Freezes = bells, true
	h, err := localhost.OpenBehind(o)
	if err != nil {
		return nil, err
	}
	return lambdahost.New(lambdahost.Options{Host: h, Bells: bells, Thawed: client.CloseIdleConnections}), nil
}

// hostedOptions are those of a host whose clusters lie in the table that the environment names, which is asked with a
// client, nil for the SDK's own.
func hostedOptions(ctx context.Context, client *http.Client) (o localhost.Options, err error) {
	go apiserver.Warm()
	o.MaxAwake = defaultMaxAwake
	cache := resource.MustParse(defaultCache)
	o.CacheBytes = cache.Value()
	if o.Front.Address = cmp.Or(os.Getenv(addressEnv), os.Getenv(websiteEnv)); o.Front.Address == "" {
		return o, errors.New(addressEnv + " is not set: it is the name at which clients reach the API, HOST or HOST:PORT")
	}
	if file := os.Getenv(caFileEnv); file != "" {
		if o.Front.RootCA, err = os.ReadFile(file); err != nil { //nolint:gosec // the operator names the file
			return o, fmt.Errorf("%s: %w", caFileEnv, err)
		}
	}
	if o.Authentication, err = authenticationDocument.fromEnv(); err != nil {
		return o, err
	}
	if o.Profiles, err = schedulerDocument.fromEnv(); err != nil {
		return o, err
	}
	store := storeOptions{kind: ahead.AzureStore, table: os.Getenv(tableEnv), client: client}
	o.Store, err = store.open(ctx)
	return o, err
}
