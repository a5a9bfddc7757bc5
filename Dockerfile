# The page and the command, on a CPU:
#   docker build -t becalm .
#   docker run --rm -it --network host becalm                            the page, on this computer's loopback only
#   docker run --rm -v "$PWD:/data" becalm denoise scan.laz              a command on files of this folder
FROM python:3.12-slim
RUN useradd --create-home becalm
COPY . /opt/becalm
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir '/opt/becalm[all]' \
    && rm -rf /opt/becalm
USER becalm
WORKDIR /data
ENTRYPOINT ["becalm"]
# Loopback of the host with --network host; with a published port instead, give `serve --host 0.0.0.0 --token SECRET`.
CMD ["serve", "--host", "127.0.0.1"]
